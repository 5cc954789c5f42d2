"""Constants that compiled code and the runtime share: the layout of the run context, of its sync area and of the team's control
block.

An entry is `void run(ptr context, i64 tid, i64 nt)` or `void plan(ptr context)`. The context is an array of i64 slots,
aligned to 64 bytes: a header, the sync area, then the program's own slots.
"""

from __future__ import annotations

SLOT_BYTES = 8
CONTEXT_ALIGNMENT = 64

# Slots of the context's header.
STATUS = 0  # 0, else what failed (codegen.checks) or ended the run; set once per run, by compare-exchange
DETAIL = 1  # three slots of numbers for the failure's message
SCRATCH = 4  # address of the scratch memory: one piece per thread, side by side
SCRATCH_BYTES = 5  # bytes of one thread's scratch memory
WORK = 6  # estimated operations of the next segment; written by its plan
STEPS = 7  # address of the segment's steps, see runtime.steps
SYNC = 8  # the sync area: zero before the first run, except SYNC_FLAGS; every run leaves it ready for the next
SYNC_SLOTS = 32
STOP = SYNC + SYNC_SLOTS  # how a run is ended early, see codegen.stop; written by the host before the run
STOP_SLOTS = 16
FIRST_SLOT = STOP + STOP_SLOTS  # the program's own slots start here

# Slots that say when a run ends early.
STOP_FUNCTION = STOP  # address of should_stop, which kernels poll; 0: they don't poll
STOP_WORD = STOP + 1  # address of an i64 that becomes nonzero to end the run; 0: there is none
STOP_DEADLINE = STOP + 2  # deadline in nanoseconds of the system's monotonic clock; 0: none
STOP_PYTHON = STOP + 3  # address of the table of Python's functions (STOP_FUNCTIONS); 0: there is no interpreter
STOP_CALLER = STOP + 4  # thread pointer of the thread that called the run; written by dispatch
STOP_LOOKED = STOP + 5  # cycle counter when signals were last checked
STOP_ERROR = STOP + 6  # three slots: type, value and traceback of the exception that a signal handler has raised
NOTHING = STOP + 15  # stands for the arguments of a kernel that takes none
STOP_FUNCTIONS = ("PyGILState_Ensure", "PyErr_CheckSignals", "PyErr_Fetch", "PyGILState_Release")

# Statuses that don't come from a kernel's check.
DETAILS = 3
REQUIRED = 1 << 30  # the code of a failed condition on sizes that change in a loop is REQUIRED + its number
OVERFLOW = 0xFFFF_FFFF  # a plan overflowed or divided by zero
TERMINATED = 0xFFFF_FFFE  # the word at STOP_WORD was set
EXPIRED = 0xFFFF_FFFD  # the deadline has passed
INTERRUPTED = 0xFFFF_FFFC  # a signal handler has raised an exception

# Byte offsets in the sync area, see codegen.tickets. Words that many threads write have cache lines of their own.
SYNC_DONE = 0  # i32: chunks finished so far, modulo 2**32; threads sleep on it
SYNC_SLEEPERS = 64  # i32: threads that sleep or are about to sleep
SYNC_POSITION = 128  # i64: where threads continue after the last group of CLEAR, COUNT and WHILE: ticket << POSITION_BITS | row
SYNC_INSIDE = 192  # i64: workers that may still read the context: they are in the run, or have yet to begin it
SYNC_TICKET = 200  # i64: 2 x the ticket at which the run begins; plus 1 once it is over; dispatch makes it even before a run
SYNC_CLAIMS = 208  # i64: address of the claim words: one for groups, then one per thread's range, CLAIM_BYTES apart
SYNC_FLAGS = 216  # i64: the flags below; written before the first run
INSIDE, TICKET, CLAIMS, FLAGS = (  # the same places as slots of the context
    SYNC + offset // SLOT_BYTES for offset in (SYNC_INSIDE, SYNC_TICKET, SYNC_CLAIMS, SYNC_FLAGS)
)
CLAIM_BYTES = 64
POSITION_BITS = 24
MOST_CHUNKS = 16  # the most chunks of a thread's range
COUNT_BITS = 6  # bits of a row's `how` below the count, see runtime.steps

LITTLE = 1 << 17
"""Operations that take about ten microseconds. Less work than that runs on one thread, which finishes before another thread
would be awake.
"""

# A row of a step table begins with a kernel's address or one of these negative numbers.
ROW_BYTES = 32
END, BARRIER, CLEAR, COUNT, WHILE, JUMP = range(-1, -7, -1)

# Flags of a context, in SYNC_FLAGS.
FLUSH = 1  # flush subnormal numbers to zero
NO_SPIN = 2  # threads that wait sleep at once instead of spinning first

# The team's control block: a header, then one record per worker. Byte offsets.
CONTROL_WORKERS = 0  # i64: number of workers' records
CONTROL_STOP = 8  # i32: nonzero once the workers have to leave
CONTROL_RECORDS = 128
RECORD_BYTES = 128
RECORD_STATE = 0  # i32, one of the states below; the worker sleeps on it
RECORD_ENTRY = 8  # the job: address of its entry, its context, tid, nt
RECORD_CONTEXT = 16
RECORD_TID = 24
RECORD_NT = 32
RECORD_NEXT = 40  # address of the next record that the same dispatch has claimed

# States of a worker. Claiming an idle or sleeping one adds CLAIM.
ABSENT, IDLE, ASLEEP, CLAIMED, CLAIMED_ASLEEP, JOB = range(6)
CLAIM = CLAIMED - IDLE

# Byte offsets in objects of Python and numpy that a replay reads, in 64-bit CPython with the GIL; see runtime.replay.
OBJECT_TYPE = 8
LIST_ITEMS = 24
ARRAY_DATA = 16
ARRAY_RANK = 24  # i32
ARRAY_DIMENSIONS = 32
ARRAY_DTYPE = 56
ARRAY_FLAGS = 64  # i32
DTYPE_TYPE = 16  # in a dtype object: the class of its scalars
DTYPE_KIND = 24  # in a dtype object: characters for kind, type and byte order, a byte to ignore, and its number as an i32
KIND_MASK = ~0xFF00_0000
PLAIN = 0x1 | 0x100  # flags of arrays that compiled code reads without a copy: C-contiguous and aligned

# Byte offsets in the request of a replay, which consists of 8-byte words.
REPLAY_CONTEXT = 0
REPLAY_PLAN = 8  # addresses of the program's plan and of its entry
REPLAY_ENTRY = 16
REPLAY_CONTROL = 24  # the team's control block
REPLAY_THREADS = 32
REPLAY_TYPE = 40  # numpy.ndarray
REPLAY_INTEGER = 48  # PyLong_FromLongLong, PyEval_SaveThread, PyEval_RestoreThread
REPLAY_RELEASE = 56
REPLAY_ACQUIRE = 64
REPLAY_INPUTS = 72  # rows that follow: for each input its slot, type, kind, rank and sizes; for each output its slot
REPLAY_OUTPUTS = 80
REPLAY_ROWS = 88
ROW_SLOT, ROW_TYPE, ROW_KIND, ROW_RANK, ROW_SIZES = 0, 8, 16, 24, 32
UNLIKE, DONE, FAILED = range(3)  # what a replay returns: an input differs and nothing was run, the run succeeded, or it failed


def control_bytes(workers: int) -> int:
    """Return the size of a control block with `workers` records."""
    return CONTROL_RECORDS + workers * RECORD_BYTES
