"""What compiled code and the runtime agree on: the run context, the sync area and the team's control block.

An entry is `void run(ptr context, i64 tid, i64 nt)` or `void plan(ptr context)`. The context is an array of i64 slots,
aligned to 64 bytes: a header, the sync area, then the program's own slots.
"""

from __future__ import annotations

SLOT_BYTES = 8
CONTEXT_ALIGNMENT = 64

# Slots of the context's header.
STATUS = 0  # 0, else code << 32 | node index; set once a run, by compare-exchange
DETAIL = 1  # three slots of detail on the failure
SCRATCH = 4  # address of the threads' scratch, one piece after the other
SCRATCH_BYTES = 5  # bytes of one thread's piece
WORK = 6  # operations of the segment that comes next, roughly; written by its sizes
STEPS = 7  # address of the segment's steps, see runtime.steps
SYNC = 8  # the sync area: zero before the first run (but for SYNC_FLAGS), left fit for the next by every run
SYNC_SLOTS = 32
STOP = SYNC + SYNC_SLOTS  # how a run is ended early, see codegen.stop; written by the host before the run
STOP_SLOTS = 16
FIRST_SLOT = STOP + STOP_SLOTS  # the program's own slots start here

# Slots of what ends a run early.
STOP_FUNCTION = STOP  # address of should_stop, which kernels call; 0: nobody asks
STOP_WORD = STOP + 1  # address of an i64 that is not 0 once the run is to end; 0: there is none
STOP_DEADLINE = STOP + 2  # when the run has to end, in nanoseconds of the system's monotonic clock; 0: never
STOP_PYTHON = STOP + 3  # address of a table of functions of Python's; 0: there is no interpreter
STOP_CALLER = STOP + 4  # thread pointer of the thread that has called; written by dispatch
STOP_LOOKED = STOP + 5  # cycles when signals were last looked at
STOP_ERROR = STOP + 6  # three slots: type, value and traceback of the exception that a signal's handler has raised
NOTHING = STOP + 15  # a slot after one that stays 0: the arguments of a kernel that takes none
STOP_FUNCTIONS = ("PyGILState_Ensure", "PyErr_CheckSignals", "PyErr_Fetch", "PyGILState_Release")  # the table

# Statuses that no check of a kernel leaves.
DETAILS = 3
REQUIRED = 1 << 30  # added to the codes of what sizes must fulfil at an iteration of a loop
OVERFLOW = 0xFFFF_FFFF  # a plan's number does not fit, or it divides by zero
TERMINATED = 0xFFFF_FFFE  # the word of STOP_WORD was set
EXPIRED = 0xFFFF_FFFD  # the deadline has passed
INTERRUPTED = 0xFFFF_FFFC  # a handler of a signal has raised an exception

# Byte offsets in the sync area, see codegen.tickets. What many threads write lies on a cache line of its own.
SYNC_DONE = 0  # i32: parts of calls done so far, modulo 2**32; threads sleep on it
SYNC_SLEEPERS = 64  # i32: threads that sleep, or are about to
SYNC_POSITION = 128  # i64: where the walk went on after the last decision: turn << POSITION_BITS | row
SYNC_INSIDE = 192  # i64: workers that have not left the run, or not come yet; the context stays theirs
SYNC_TICKET = 200  # i64: twice the turn at which the run begins; odd once it is over; the host makes it even before a run
SYNC_CLAIMS = 208  # i64: address of the words of what one thread does and of each thread's share, CLAIM_BYTES apart
SYNC_FLAGS = 216  # i64: how to run, see below; written by the host before the first run
INSIDE, TICKET, CLAIMS, FLAGS = (  # the same as slots
    SYNC + offset // SLOT_BYTES for offset in (SYNC_INSIDE, SYNC_TICKET, SYNC_CLAIMS, SYNC_FLAGS)
)
CLAIM_BYTES = 64
POSITION_BITS = 24
MOST_CHUNKS = 16  # into which a thread's share of a call may be divided
COUNT_BITS = 6  # below the count in a row's `how`, see runtime.steps

LITTLE = 1 << 17
"""Work of at most so many operations takes ten microseconds or so: one thread has done it before a second one is awake."""

# A row of a segment's steps: its first word is a kernel's address or one of these, which no address is.
ROW_BYTES = 32
END, BARRIER, CLEAR, COUNT, WHILE, JUMP = range(-1, -7, -1)

# Flags of a context's runs.
FLUSH = 1  # subnormal numbers are taken as zero
NO_SPIN = 2  # threads that wait, for others or for the next run, sleep at once

# The team's control block: a header, then one record per worker. Byte offsets.
CONTROL_WORKERS = 0  # i64: records to search for an idle worker
CONTROL_STOP = 8  # i32: not 0 once the workers are to leave
CONTROL_RECORDS = 128
RECORD_BYTES = 128
RECORD_STATE = 0  # i32, one of the states below; the worker sleeps on it
RECORD_ENTRY = 8  # the job: address of its entry, its context, tid, nt
RECORD_CONTEXT = 16
RECORD_TID = 24
RECORD_NT = 32
RECORD_NEXT = 40  # next record that the same dispatcher has claimed

# States of a worker. Claiming an idle or sleeping one adds CLAIM.
ABSENT, IDLE, ASLEEP, CLAIMED, CLAIMED_ASLEEP, JOB = range(6)
CLAIM = CLAIMED - IDLE

# What a replay reads of Python's and numpy's objects: byte offsets, in 64-bit CPython with the GIL; see runtime.replay.
OBJECT_TYPE = 8
LIST_ITEMS = 24
ARRAY_DATA = 16
ARRAY_RANK = 24  # i32
ARRAY_DIMENSIONS = 32
ARRAY_DTYPE = 56
ARRAY_FLAGS = 64  # i32
DTYPE_TYPE = 16  # of the dtype: the class of its scalars
DTYPE_KIND = 24  # of the dtype: characters for kind, type and byte order, one that says nothing, its number as an i32
KIND_MASK = ~0xFF00_0000
PLAIN = 0x1 | 0x100  # flags of arrays that compiled code takes as they are: C-contiguous and aligned

# The request of a replay. Byte offsets of 8-byte words.
REPLAY_CONTEXT = 0
REPLAY_PLAN = 8  # addresses of the program's plan and of its entry
REPLAY_ENTRY = 16
REPLAY_CONTROL = 24  # the team's control block
REPLAY_THREADS = 32
REPLAY_TYPE = 40  # numpy.ndarray
REPLAY_INTEGER = 48  # PyLong_FromLongLong, PyEval_SaveThread, PyEval_RestoreThread
REPLAY_RELEASE = 56
REPLAY_ACQUIRE = 64
REPLAY_INPUTS = 72  # how many rows follow: for each input slot, type, kind, rank and sizes, for each output its slot
REPLAY_OUTPUTS = 80
REPLAY_ROWS = 88
ROW_SLOT, ROW_TYPE, ROW_KIND, ROW_RANK, ROW_SIZES = 0, 8, 16, 24, 32
UNLIKE, DONE, FAILED = range(
    3
)  # what it returns: an input differs and nothing was done, or the run ended with status 0, or another


def control_bytes(workers: int) -> int:
    """Size of a control block with room for `workers` records."""
    return CONTROL_RECORDS + workers * RECORD_BYTES
