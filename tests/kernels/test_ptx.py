"""The machine that executes PTX: it computes what the instructions say, and it notices faults that are there."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from kernels.ptx.arithmetic import KINDS, compute, product_of_matrices
from kernels.ptx.machine import Machine
from kernels.ptx.memory import Memory, of_tensors
from kernels.ptx.parsing import parse

WARPS = 2
HEAD = """
.visible .entry program(
    .param .u64 .ptr .global .align 1 program_param_0
)
{
    .reg .pred %p<4>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<9>;
    ld.param.b64 %rd1, [program_param_0];
    mov.u32 %r1, %tid.x;
    shl.b32 %r2, %r1, 2;
    cvt.u64.u32 %rd2, %r2;
    add.s64 %rd3, %rd1, %rd2; // where thread i writes
    mov.b32 %r3, global_smem;
    add.s32 %r4, %r3, %r2;
"""
ACROSS = """
    st.shared::cta.b32 [ %r4 + 0 ], %r1;
    {barrier}
    xor.b32 %r5, %r2, 252; // the thread at the other end
    add.s32 %r6, %r3, %r5;
    ld.shared.b32 %r7, [%r6];
    @!%p1 st.global.b32 [ %rd3 + {offset} ], {{ %r7 }};
    ret;
}}
"""


def executed(body: str, size: int = 32 * WARPS, blocks: int = 1) -> tuple[torch.Tensor, Counter[str]]:
    """What a program leaves in a tensor of int32, and its faults."""
    out = torch.full((size,), -1, dtype=torch.int32)
    # Every register holds something until it is written: %p1 is set to false first.
    program = parse(HEAD + "setp.lt.s32 %p1, %r1, 0;" + body)
    machine = Machine(program, [np.uint64(out.data_ptr())], blocks, WARPS, 4 * 32 * WARPS, partial(of_tensors, [out]))
    machine.run()
    return out, machine.faults


def test_numbers_go_through_shared_memory_from_thread_to_thread():
    out, faults = executed(ACROSS.format(barrier="bar.sync 0;", offset=0))
    assert out.tolist() == list(range(63, -1, -1))
    assert not faults


@pytest.mark.parametrize("barrier", ["", "bar.warp.sync -1;"])
def test_a_race(barrier):
    _, faults = executed(ACROSS.format(barrier=barrier, offset=0))
    assert any("without a barrier after a write" in fault for fault in faults)


def test_written_over_before_all_have_read():
    again = "st.shared.b32 [%r4], %r2;\n    @!%p1 st.global"
    _, faults = executed(ACROSS.format(barrier="bar.sync 0;", offset=0).replace("@!%p1 st.global", again))
    assert [fault.split(":")[0] for fault in faults] == ["written without a barrier after a read"]


def test_outside_of_a_tensor():
    with pytest.raises(IndexError, match=r"outside of memory: .*st\.global"):
        executed(ACROSS.format(barrier="bar.sync 0;", offset=4))


def test_outside_of_shared_memory():
    with pytest.raises(IndexError, match="outside of shared memory"):
        executed(ACROSS.format(barrier="bar.sync 0;", offset=0).replace("252", "253").replace("[%r6]", "[%r6 + 253]"))


def test_read_before_it_was_written():
    _, faults = executed(ACROSS.format(barrier="", offset=0).replace("st.shared::cta.b32 [ %r4 + 0 ], %r1;", ""))
    assert any(fault.startswith("read before it was written") for fault in faults)


def test_blocks_that_write_to_one_place():
    block = "mov.u32 %r7, %ctaid.x; st.global.b32 [ %rd3 + 0 ], { %r7 }; ret; }"
    assert executed(block)[1] == {}
    assert executed(block, blocks=2)[1]


def test_threads_that_do_not_agree_on_a_value():
    _, faults = executed("st.global.b32 [ %rd1 + 0 ], { %r1 }; ret; }")
    assert any("different values to one place" in fault for fault in faults)
    assert executed("st.global.b32 [ %rd1 + 0 ], { %r3 }; ret; }")[1] == {}


def test_branches_and_loops():
    out, faults = executed("""
    mov.b32 %r5, 0;
$L__BB0_1:
    add.s32 %r5, %r5, 3;
    setp.lt.s32 %p2, %r5, 10;
    @%p2 bra $L__BB0_1;
    bra.uni $L__BB0_2;
    mov.b32 %r5, -7;
$L__BB0_2:
    st.global.b32 [ %rd3 + 0 ], { %r5 };
    ret;
}""")
    assert set(out.tolist()) == {12}
    assert not faults


@pytest.mark.parametrize(("bound", "fault"), [(5, "threads of a warp part"), (32, "warps of a block part")])
def test_threads_that_part(bound, fault):
    body = f"setp.lt.s32 %p2, %r1, {bound};\n @%p2 bra $L__BB0_1;\n mov.b32 %r5, 0;\n$L__BB0_1:\n ret; }}"
    assert any(name.startswith(fault) for name in executed(body)[1])


def test_a_copy_that_takes_its_time():
    copy = "cp.async.ca.shared.global [ %r4 + 0 ], [ %rd3 + 0 ], 0x4, %r8; cp.async.commit_group;"
    ends = "ld.shared.b32 %r7, [%r4]; add.s32 %r7, %r7, 5; st.global.b32 [ %rd3 + 0 ], { %r7 }; ret; }"
    out, faults = executed(f"mov.b32 %r8, 4; {copy} cp.async.wait_group 0; {ends}")
    assert set(out.tolist()) == {4}
    assert not faults
    with pytest.raises(AssertionError, match="nobody has waited"):
        executed(f"mov.b32 %r8, 4; {copy} {ends}")


def test_what_a_warp_does_together():
    out, _ = executed("shfl.sync.bfly.b32 %r5, %r1, 3, 31, -1; st.global.b32 [ %rd3 + 0 ], { %r5 }; ret; }")
    assert out.tolist() == [i ^ 3 for i in range(64)]
    out, _ = executed("mov.b32 %r6, -1; redux.sync.add.s32 %r5, %r1, %r6; st.global.b32 [ %rd3 + 0 ], { %r5 }; ret; }")
    assert out.tolist() == [sum(range(32))] * 32 + [sum(range(32, 64))] * 32


def test_parts_of_a_register():
    body = "mov.b64 %rd4, { %r1, %r2 }; mov.b64 { _, %r5 }, %rd4; st.global.b32 [ %rd3 + 0 ], { %r5 }; ret; }"
    assert executed(body)[0].tolist() == [4 * i for i in range(64)]


def test_an_instruction_that_is_not_known():
    with pytest.raises(NotImplementedError, match=r"tanh\.approx\.f32"):
        executed("tanh.approx.f32 %r5, %r1; ret; }")


@pytest.mark.parametrize(
    ("instruction", "operands", "expected"),
    [
        ("add.s32", (2**31 - 1, 1), -(2**31)),
        ("sub.s64", (1, 3), -2),
        ("mul.lo.s32", (-3, 5), -15),
        ("mul.wide.s32", (-(2**31), 2), -(2**32)),
        ("mul.wide.u32", (2**32 - 1, 2), 2**33 - 2),
        ("mad.wide.s32", (-3, 5, 100), 85),
        ("mad.lo.s32", (-3, 5, 100), 85),
        ("div.s32", (-7, 2), -3),  # towards zero
        ("shl.b32", (1, 32), 0),
        ("shr.s32", (-8, 40), -1),
        ("shr.u32", (8, 2), 2),
        ("bfe.u32", (0b110100, 2, 3), 0b101),
        ("bfe.s32", (0b110100, 2, 3), -3),
        ("prmt.b32", (0x44332211, 0x88776655, 0x5410), 0x66552211),
        ("prmt.b32", (0x00FF7F80, 0, 0xBA98), 0x00FF00FF),  # the signs of bytes 3 to 0
        ("fma.rn.f64", (1 + 2.0**-30, 1 - 2.0**-30, -1.0), -(2.0**-60)),
        ("fma.rn.f32", (3.0, 4.0, 5.0), 17.0),
        ("max.f64", (np.nan, 2.0), 2.0),
        ("copysign.f64", (-1.0, 2.0), -2.0),
        ("cvt.rn.f32.f64", (1 / 3,), np.float32(1 / 3)),
        ("cvt.s64.s32", (-5,), -5),
        ("cvt.u16.u32", (2**16 + 3,), 3),
        ("setp.lt.f64", (np.nan, 1.0), False),
        ("setp.ltu.f64", (np.nan, 1.0), True),
        ("setp.neu.f64", (np.nan, np.nan), True),
        ("setp.ne.f64", (np.nan, 1.0), False),
        ("setp.lt.u32", (2**32 - 1, 1), False),
        ("selp.b32", (7, 9, False), 9),
    ],
)
def test_arithmetic(instruction, operands, expected):
    def read(i: int, kind: str) -> np.ndarray:
        return np.array([operands[i - 1]]).astype(KINDS[kind])

    value = compute(tuple(instruction.split(".")), read)
    assert value[0] == expected


@pytest.mark.parametrize(("rows", "inner"), [(8, 4), (16, 4), (16, 8), (16, 16)])
def test_products_of_matrices(rows, inner):
    """Every entry is where the tables of the ISA have it."""
    A, B = np.random.default_rng(0).random((rows, inner)), np.random.default_rng(1).random((inner, 8))
    C, lane, high = np.random.default_rng(2).random((rows, 8)), np.arange(32), rows // 8
    a = [A[lane // 4 + 8 * (i % high), lane % 4 + 4 * (i // high)] for i in range(rows * inner // 32)]
    b = [B[lane % 4 + 4 * i, lane // 4] for i in range(inner // 4)]
    places = [(lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2) for i in range(rows // 4)]
    found = product_of_matrices(f"m{rows}n8k{inner}", a, b, [C[place] for place in places])
    for place, value in zip(places, found, strict=True):
        np.testing.assert_allclose(value, (A @ B + C)[place], rtol=1e-14)


def test_places_that_are_not_aligned():
    faults: Counter[str] = Counter()
    memory = Memory([], faults)
    with pytest.raises(IndexError):
        memory.load(np.array([6]), 4, np.array([0]), "here")
    assert faults == {"not a multiple of 4 bytes: here": 1}
