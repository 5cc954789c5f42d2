"""The exact remainder of floats (C's fmod), emitted as a function of the module, because LLVM would call the C library."""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen.llvm_types import F32, I1, I32, FunctionBuilder, Type, Value, int_type, lanes_of


def float_remainder(w: FunctionBuilder, x: Value, y: Value) -> Value:
    """Emit x rem y with the sign of x, exactly; NaN if x is infinite, y is 0 or either is NaN. Vectors are computed lane by
    lane.
    """
    lanes = lanes_of(x)
    if lanes is None:
        return w.b.call(_function(w, x.type), [x, y])
    rem = _function(w, x.type.element)
    out = w.undefined(x.type)
    for lane in range(lanes):
        at = w.const(I32, lane)
        out = w.b.insert_element(out, w.b.call(rem, [w.b.extract_element(x, at), w.b.extract_element(y, at)]), at)
    return out


def _function(w: FunctionBuilder, t: Type) -> Value:
    """Return fmod(x, y) as a function: long division of the mantissas of |x| and |y|, bit by bit.

    a, b = |x|, |y| as (exponent, mantissa), subnormals with exponents below 1
    if y == 0 or x is infinite or either is NaN: return (x y) / (x y)
    if |x| < |y|: return x
    for exponent of a down to exponent of b: if a >= b: a -= b; a <<= 1 (except in the last iteration)
    return a normalised again, with the sign of x
    """
    bits, fraction = (32, 23) if t == F32 else (64, 52)
    name = f"fmod.{t.intrinsic_name}"
    found = w.module.globals.get(name)
    if found is not None:
        return found
    function = ir.Function(w.module, ir.FunctionType(t, [t, t]), name)
    function.linkage = "internal"
    inner = FunctionBuilder(function, w.target)
    _Division(inner, int_type(bits), t, fraction).emit()
    return function


class _Division:
    """Emits the body of fmod, on integers of the float's width."""

    def __init__(self, w: FunctionBuilder, integer: Type, t: Type, fraction: int) -> None:
        self.w, self.b = w, w.b
        self.integer, self.t, self.fraction = integer, t, fraction
        self.bits: int = integer.width

    def number(self, n: int) -> Value:
        return self.w.const(self.integer, n)

    def emit(self) -> None:
        w, b = self.w, self.b
        x, y = w.function.args
        b.position_at_end(w.block("entry"))
        sign, magnitude = 1 << (self.bits - 1), (1 << (self.bits - 1)) - 1
        xi, yi = b.bitcast(x, self.integer), b.bitcast(y, self.integer)
        xa, ya = b.and_(xi, self.number(magnitude)), b.and_(yi, self.number(magnitude))
        infinity = self.number(((1 << (self.bits - 1 - self.fraction)) - 1) << self.fraction)
        bad = b.or_(b.icmp_unsigned("==", ya, self.number(0)), b.icmp_unsigned(">=", xa, infinity))
        bad = b.or_(bad, b.icmp_unsigned(">", ya, infinity))
        with b.if_then(bad):
            product = b.fmul(x, y)
            b.ret(b.fdiv(product, product))
        with b.if_then(b.icmp_unsigned("<", xa, ya)):
            b.ret(x)
        low = self._reduced(xa, ya)
        b.ret(b.bitcast(b.or_(low, b.and_(xi, self.number(sign))), self.t))

    def _leading(self, mantissa: Value) -> Value:
        """Return by how many bits a mantissa must be shifted so that its leading bit is the implicit one; the width of the
        fraction plus 1 for 0.
        """
        zeros = self.w.intrinsic(f"llvm.ctlz.i{self.bits}", self.integer, mantissa, self.w.const(I1, False))
        return self.b.sub(zeros, self.number(self.bits - 1 - self.fraction))

    def _parts(self, v: Value) -> tuple[Value, Value]:
        """Split a magnitude that is not 0 into (exponent, mantissa with its leading bit); a subnormal's exponent is below 1."""
        b = self.b
        exponent = b.lshr(v, self.number(self.fraction))
        mantissa = b.and_(v, self.number((1 << self.fraction) - 1))
        normal = b.icmp_unsigned("!=", exponent, self.number(0))
        short = b.select(normal, self.number(0), self._leading(mantissa))
        whole = b.select(normal, b.or_(mantissa, self.number(1 << self.fraction)), b.shl(mantissa, short))
        return b.select(normal, exponent, b.sub(self.number(1), short)), whole

    def _reduced(self, xa: Value, ya: Value) -> Value:
        """Return the magnitude of the remainder, given xa >= ya > 0."""
        w, b = self.w, self.b
        (xe, xm), (ye, ym) = self._parts(xa), self._parts(ya)
        pre, loop, done = b.block, w.block("loop"), w.block("done")
        b.branch(loop)
        b.position_at_end(loop)
        exponent, mantissa = b.phi(self.integer), b.phi(self.integer)
        less = b.sub(mantissa, ym)
        rest = b.select(b.icmp_signed(">=", less, self.number(0)), less, mantissa)
        more = b.icmp_signed(">", exponent, ye)
        exponent.add_incoming(xe, pre)
        exponent.add_incoming(b.sub(exponent, self.number(1)), loop)
        mantissa.add_incoming(xm, pre)
        mantissa.add_incoming(b.shl(rest, self.number(1)), loop)
        b.cbranch(more, loop, done)
        b.position_at_end(done)
        return self._normalised(rest, ye)

    def _normalised(self, mantissa: Value, exponent: Value) -> Value:
        """Return the bits of the float mantissa * 2^(exponent - bias - fraction), which is 0 or exactly representable."""
        b = self.b
        short = self._leading(mantissa)
        whole, power = b.shl(mantissa, short), b.sub(exponent, short)
        normal = b.icmp_signed(">", power, self.number(0))
        fraction = b.and_(whole, self.number((1 << self.fraction) - 1))
        field = b.shl(b.select(normal, power, self.number(0)), self.number(self.fraction))
        down = b.select(normal, self.number(0), b.sub(self.number(1), power))
        down = b.select(b.icmp_unsigned("<", down, self.number(self.bits)), down, self.number(0))
        zero = b.icmp_unsigned("==", mantissa, self.number(0))
        found = b.select(normal, b.or_(fraction, field), b.lshr(whole, down))
        return b.select(zero, self.number(0), found)
