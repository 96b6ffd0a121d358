"""-d and -D: what each item says of a small guest, against what that guest is and does."""
import os, re, subprocess, tempfile, unittest
from lib import *

AT = symbols("gdb")
LLVM = os.environ["TIERCE_LLVM"] in ("1", "ON", "TRUE", "YES")


def image(name):
    """The bytes at each address of the guest's file."""
    out = subprocess.run(["objdump", "-s", guest(name)], capture_output=True, text=True, check=True).stdout
    memory = {}
    for m in re.finditer(r"^ ([0-9a-f]+) ((?:[0-9a-f]+ ){1,4})", out, re.M):
        for i, byte in enumerate(bytes.fromhex(m.group(2).replace(" ", ""))):
            memory[int(m.group(1), 16) + i] = byte
    return memory


class Trace(unittest.TestCase):
    def trace(self, items, *args, name="gdb", status=0x55):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "log")
            got, out, err = run("-kernel", guest(name), "-append", "g", "-serial", "null", "-monitor", "none", "-d", items, "-D", path, *args)
            self.assertEqual((got, out, err), (status, "", ""))
            return text(path)

    def has(self, log, pattern):
        self.assertIsNotNone(re.search(pattern, log, re.M), "no %r in %s..." % (pattern, log[:500]))

    def test_in_asm(self):
        for tier in ["interp", "tcg"]:
            log, memory = self.trace("in_asm", "--tier=" + tier), image("gdb")
            self.has(log, r"-{16}\nIN:\n0x0010000c:  bc\w{8}            mov esp, 0x\w+\n")
            lines = re.findall(r"^0x([0-9a-f]+):  ([0-9a-f]+) +(\S.*)$", log, re.M)
            self.assertGreater(len(lines), 60)
            for at, code, _ in lines:
                self.assertEqual(bytes.fromhex(code), bytes(memory[int(at, 16) + i] for i in range(len(code) // 2)), at)
            said = {int(at, 16): insn for at, _, insn in lines}
            self.assertRegex(said[AT["work"]], r"^inc dword ptr|^inc \[0x")
            self.assertIn("mov r8, 0x1122334455667788", said.values())
            self.assertIn("iretq", said.values())
            self.assertIn("rep stosb", said.values())

    def test_ir(self):
        """What the passes leave is less than what they get."""
        log = self.trace("ir,ir_opt")
        before, after = ({int(pc, 16): ops for pc, ops in re.findall(r"^%s for 0x([0-9a-f]+):\n((?:.+\n)+)" % title, log, re.M)} for title in ("IR", "IR after optimisation"))
        self.assertEqual(set(before), set(after))
        self.assertIn(AT["work"], before)
        self.has(before[AT["work"]], r"(?s)insn\.void.*store\.i32")
        self.assertLess(sum(t.count("\n") for t in after.values()), sum(t.count("\n") for t in before.values()))

    def test_out_asm(self):
        log = self.trace("out_asm")
        blocks = re.findall(r"^OUT: \[size=(\d+)\] for 0x([0-9a-f]+)\n((?:.+\n)+)", log, re.M)
        self.assertIn(AT["work"], [int(pc, 16) for _, pc, _ in blocks])
        for size, pc, lines in blocks:
            code = re.findall(r"^0x[0-9a-f]+:  ([0-9a-f]+) ", lines, re.M)
            self.assertEqual(sum(len(c) // 2 for c in code), int(size), pc)
        self.assertEqual(self.trace("out_asm", "--tier=interp"), "")

    @unittest.skipUnless(LLVM, "built without LLVM")
    def test_llvm(self):
        """Each region's three texts, under its first PC; -dfilter goes by that."""
        def regions(log):
            found = {}
            for title, pc, body in re.findall(r"^(LLVM[^\n]*) for 0x([0-9a-f]+):\n(.*?)(?=^LLVM[^\n]* for 0x|\Z)", log, re.M | re.S):
                found.setdefault(int(pc, 16), {})[title] = body
            return found
        all_items = "llvm_ir,llvm_opt,llvm_asm"
        found = regions(self.trace(all_items, "--tier=llvm"))
        self.assertIn(AT["_start"], found)
        for pc, texts in found.items():
            self.assertEqual(list(texts), ["LLVM IR", "LLVM IR after optimisation", "LLVM OUT"], hex(pc))
            self.assertIn("alloca", texts["LLVM IR"])
            for title in "LLVM IR", "LLVM IR after optimisation":
                self.assertEqual(len(re.findall(r"^define ", texts[title], re.M)), 1)
            self.assertRegex(texts["LLVM OUT"], r"(?m)^\tjmpq?\t\*")
        some = max(found)
        self.assertEqual(set(regions(self.trace(all_items, "--tier=llvm", "-dfilter", "0x%x+1" % some))), {some})
        self.assertEqual(set(regions(self.trace("llvm_opt", "--tier=llvm"))[AT["_start"]]), {"LLVM IR after optimisation"})
        self.assertEqual(self.trace(all_items, "--tier=tcg"), "")

    def test_exec(self):
        for tier in ["interp", "tcg"]:
            for items in ["exec", "exec,nochain"]:
                log = self.trace(items, "--tier=" + tier)
                pcs = [int(pc, 16) for pc in re.findall(r"^Trace 0: \S+ \[0{16}/([0-9a-f]{16})/[0-9a-f]{8}/\d+\]$", log, re.M)]
                self.assertEqual(pcs.count(AT["work"]), 100)
                self.assertEqual(pcs.count(AT["handler"]), 1)
                self.assertEqual(pcs[0], AT["_start"])

    def test_cpu(self):
        """Registers before each block: the loop's counter goes down."""
        log = self.trace("cpu")
        at_work = [m.group(1) for m in re.finditer(r"ECX=([0-9a-f]{8}) .*\n.*\nEIP=%08x " % AT["work"], log)]
        self.assertEqual([int(n, 16) for n in at_work], list(range(100, 0, -1)))
        self.has(log, r"R8 =1122334455667788 (.*\n)+?CS =0008 0{16} ffffffff 00af9b00 DPL=0 CS64 \[-RA\]")
        self.has(log, r"XMM03=0{16} 400921fb54442d18")

    def test_int(self):
        log = self.trace("int")
        self.has(log, r"^ +0: v=0e e=0000 i=0 cpl=0 IP=0008:[0-9a-f]{16} pc=[0-9a-f]{16} SP=0010:[0-9a-f]{16} CR2=0000000012345678\n$")

    def test_triple_fault(self):
        log = self.trace("int", "-append", "t", "-no-reboot", name="reset", status=0)
        self.assertEqual(re.findall(r" v=(\w\w) e=(\w{4})", log), [("06", "0000"), ("0d", "0033"), ("08", "0000")])
        self.has(log, r"Triple fault at 0010:00000000001\w{5}\n$")

    def test_mmu(self):
        log = self.trace("mmu")
        self.has(log, r"mmu: fill 0000000000400000 -> 0000000000400000 rw supervisor, page of 4 KiB\n")
        self.has(log, r"mmu: fill 0000000000\w{6} -> 0000000000\w{6} r[w-] supervisor, page of 2048 KiB\n")
        self.has(log, r"mmu: flush all\n")
        self.has(log, r"mmu: fault at 0000000012345678 by 0008:[0-9a-f]{16}: read by supervisor, not present\n")

    def test_filter(self):
        work = AT["work"]
        for ranges in ["0x%x..0x%x" % (work, work), "0x1..0x2,0x%x+0x1" % work, "0x%x-0x2" % (work + 1)]:
            log = self.trace("in_asm,exec,ir", "-dfilter", ranges)
            self.assertEqual(set(re.findall(r"/([0-9a-f]{16})/", log)), {"%016x" % work})
            self.assertEqual(log.count("IN:"), 1)
            self.assertEqual(log.count("IR for"), 1)

    def test_last_wins(self):
        self.assertEqual(self.trace("exec,cpu", "-d", "int").count("\n"), 1)

    def test_to_standard_error(self):
        status, out, err = run("-kernel", guest("gdb"), "-append", "g", "-serial", "null", "-monitor", "none", "-d", "op,op_opt,int")
        self.assertEqual((status, out), (0x55, ""))
        self.assertIn("IR after optimisation", err)
        self.assertIn("v=0e", err)


if __name__ == "__main__":
    main()
