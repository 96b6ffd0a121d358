"""tierce-ir: every stage, counts that add up, code that objdump agrees with, IR text that comes back, input of each kind, mistakes."""
from lib import *
import json, random

TIERCE_IR = os.environ["TIERCE_IR"]
LLVM = os.environ["TIERCE_LLVM"] in ("1", "ON", "TRUE", "YES")
ADD = "48 01 d8 c3"                     # add rax, rbx; ret
LOOP = "31 c0 01 f8 ff cf 75 fa c3"     # xor eax, eax; 2: add eax, edi; dec edi; jnz 2; ret
SPILLS = "0f 10 07 0f 10 4f 10 0f 10 57 20 0f 10 5f 30"


def ir(*args, **more):
    r = subprocess.run([TIERCE_IR, *args], capture_output=True, text=True, errors="replace", timeout=SECONDS, **more)
    return r.returncode, r.stdout, r.stderr


def good(*args, **more):
    status, out, err = ir(*args, **more)
    assert (status, err) == (0, ""), (args, status, err)
    return out


def as_json(*args):
    return json.loads(good("--json", *args))


def objdump(path, *args):
    """Offsets and bytes of instructions."""
    out = subprocess.run(["objdump", "-w", *args, path], capture_output=True, text=True, check=True).stdout
    return {int(m.group(1), 16): m.group(2).replace(" ", "") for m in re.finditer(r"^ *([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", out, re.M)}


def objdump_code(code):
    with tempfile.NamedTemporaryFile() as f:
        f.write(code)
        f.flush()
        return objdump(f.name, "-D", "-b", "binary", "-m", "i386:x86-64")


def host_code(lines):
    return b"".join(bytes.fromhex(l["bytes"]) for l in lines)


class Test(unittest.TestCase):
    maxDiff = 2000


class Stages(Test):
    def test_in_asm(self):
        out = good("--hex", ADD, "--stage", "in_asm", "--no-summary")
        self.assertEqual(out, "; in_asm of block 0 at 0x1000\n0x1000:  4801d8            add rax, rbx\n0x1003:  c3                ret\n\n")

    def test_ir(self):
        before, after = (good("--hex", LOOP, "--stage", s, "--no-summary") for s in ("ir", "ir_opt"))
        for text in before, after:
            self.assertEqual(text.count("insn.void"), 5 + 4)  # from the entry, and from the loop's head
            self.assertIn("exit_if.void", text)
        self.assertLess(after.count("\n"), before.count("\n"))

    def test_out_asm(self):
        """Each instruction's bytes are where they are said to be, and objdump sees the same instructions."""
        for block in as_json("--hex", LOOP)["blocks"]:
            lines, code = block["out_asm"], host_code(block["out_asm"])
            self.assertEqual(len(code), block["code_size"])
            self.assertEqual(objdump_code(code), {l["offset"]: l["bytes"] for l in lines})
            hot = [l["insn"] for l in lines if not l["cold"]]
            self.assertEqual(hot, sorted(hot))
            self.assertTrue(all(not l["cold"] for l in lines[:len(hot)]))

    def test_default(self):
        out = good("--hex", ADD)
        self.assertEqual(re.findall(r"^; (\w+) of block", out, re.M), ["in_asm", "ir_opt", "out_asm"])
        self.assertRegex(out, r"(?m)^; total: 2 guest instructions, 1 block +4 \|")

    def test_names(self):
        """Operands of template code that are guest state or the backend's context are named; jumps that can be chained too."""
        out = good("--hex", LOOP, "--stage", "out_asm")
        self.assertRegex(out, r"\[rbp\+0x[0-9a-f]+\].* ; rip\n")
        self.assertRegex(out, r"jmp \[rbp-0x[0-9a-f]+\].* ; stub_leave\n")
        self.assertRegex(out, r"; to guest 0x1002, once chained\n")

    def test_hot(self):
        whole, hot = (good("--hex", LOOP, "--stage", "out_asm", *more) for more in ([], ["--hot"]))
        self.assertIn("; cold: ", whole)
        self.assertNotIn("; cold: ", hot)
        self.assertLess(len(hot), len(whole))

    def test_icount(self):
        plain, counting = (good("--hex", ADD, "--stage", "out_asm", *more) for more in ([], ["--icount"]))
        self.assertRegex(counting, r"sub qword ptr \[rbp\+0x[0-9a-f]+\], 0x2 +; icount")
        self.assertNotIn("sub qword ptr", plain)


@unittest.skipUnless(LLVM, "built without LLVM")
class Llvm(Test):
    def test_stages(self):
        """Each instruction has its lines in each stage; the passes leave fewer."""
        before, after, code = (good("--hex", LOOP, "--stage", s, "--no-summary") for s in ("llvm_ir", "llvm_opt", "llvm_asm"))
        for text in before, after:
            self.assertEqual(len(re.findall(r"(?m)^define .* @region_1000\(", text)), 1)
            self.assertIn("add i32", text)
        self.assertIn("alloca", before)
        self.assertNotIn("alloca", after)
        self.assertRegex(code, r"(?m)^; 0x1002 add eax, edi\n +[0-9a-f]+:  [0-9a-f]+ +\w+ ")

    def test_code(self):
        """Of the function alone, without a gap, as objdump sees it; every line is of an instruction that a block has."""
        j = as_json("--hex", LOOP)
        lines = j["llvm"]["llvm_asm"]
        code = host_code(lines)
        self.assertEqual(len(code), j["llvm"]["code_size"])
        self.assertEqual(objdump_code(code), {l["offset"]: l["bytes"] for l in lines})
        insns = {(l["block"], l["insn"]) for l in lines if l["block"] >= 0}
        self.assertLessEqual(insns, {(b, i) for b, block in enumerate(j["blocks"]) for i in range(len(block["insns"]))})
        self.assertGreaterEqual(len(insns), 3)

    def test_loops(self):
        """What is in a loop, checked by walking objdump's jumps: from the loop's instructions each can be reached again."""
        lines = as_json("--hex", LOOP)["llvm"]["llvm_asm"]
        at = {l["offset"]: l for l in lines}
        after = {}
        for l in lines:
            m, n = re.match(r"j(\w+) 0x([0-9a-f]+)$", l["text"], re.I), l["offset"] + len(l["bytes"]) // 2
            ends = l["text"].startswith(("jmp ", "ret", "ud2"))
            after[l["offset"]] = ([int(m.group(2), 16)] if m else []) + ([] if ends or n not in at else [n])
        def again(start):
            seen, todo = set(), list(after[start])
            while todo:
                n = todo.pop()
                if n not in seen:
                    seen.add(n)
                    todo += after[n]
            return start in seen
        self.assertEqual([not l["cold"] for l in lines], [again(l["offset"]) for l in lines])
        self.assertTrue({"add", "cmp", "dec"} & {l["text"].split()[0] for l in lines if not l["cold"]})
        self.assertFalse([l for l in as_json("--hex", ADD)["llvm"]["llvm_asm"] if l["cold"]])  # no loop, nothing is cold

    def test_accesses(self):
        """What was seen of accesses decides how they are checked: alignment, or the page's end."""
        def code(*args):
            return good("--hex", "48 8b 07 c3", "--stage", "llvm_opt", "--no-summary", *args)
        words = ["aligned", "moving", "misaligned", "unknown"]
        self.assertRegex(code("--accesses", "aligned"), r"and i64 %\d+, 7\b")
        for word in "misaligned", "unknown":
            self.assertRegex(code("--accesses", word), r"icmp ugt i64 %\d+, 4088\b")
        self.assertEqual(code(), code("--accesses", "aligned"))
        for word in words:
            self.assertIn("load volatile i64", code("--accesses", word))

    def test_constants(self):
        """Constants behind the function are not disassembled."""
        for code in ["66 0f ef c0 66 0f 6f c8 c3", "f3 0f e6 c0 c3", LOOP]:
            j = as_json("--hex", code)
            self.assertTrue("llvm" in j or "llvm_refused" in j)
            self.assertFalse([l for l in j.get("llvm", {}).get("llvm_asm", []) if l["text"].startswith("(bad)")])

    def test_ir_text(self):
        """From IR text, the same region."""
        text = good("--hex", LOOP, "--stage", "ir")
        def code(*args, **more):
            return re.sub(r"(?m)^;.*\n", "", good(*args, "--stage", "llvm_opt,llvm_asm", "--no-summary", **more))
        self.assertEqual(code("--ir", "-", input=text), code("--hex", LOOP))

    def test_helper(self):
        """What a helper does is part of a region, which goes on behind it; what reads guest bytes as it runs cannot come from text."""
        out = good("--hex", "0f ae 17 01 d8 c3", "--stage", "out_asm,llvm_asm")
        self.assertNotIn("no region", out)
        self.assertIn("; 0x1000 ldmxcsr [rdi]\n", out)
        self.assertRegex(out, r"(?s)call \[rax.*; 0x1003 add eax, ebx\n")
        self.assertNotIn("llvm_refused", as_json("--hex", "0f ae 17"))
        status, out, err = ir("--ir", "-", "--stage", "llvm_asm", input="block pc_bits 64 guest_insns 1 guest_bytes 6\n%1 = code.i64 !4 #0x2\njump.void #0x6\n")
        self.assertEqual(status, 1)
        self.assertRegex(err, r"^tierce-ir: .*`code` reads guest bytes, which IR text does not have\n$")

    def test_regions(self):
        """A block that no direct jump of a region leads to, here behind a call, begins another; each block is in one."""
        code = "ff d0 85 c0 75 fa 31 c9 ff c1 eb fa"  # 0: call rax; 2: test eax, eax; jnz 0; xor ecx, ecx; 8: inc ecx; jmp 6
        j = as_json("--hex", code, "--pc", "0x0", "--branches", "0")
        self.assertEqual([(b["pc"], b["region"]) for b in j["blocks"]], [("0x0", 0), ("0x2", 1), ("0x6", 1)])
        self.assertEqual([(r["pc"], r["blocks"]) for r in j["llvm"]["regions"]], [("0x0", 1), ("0x2", 2)])
        for n, r in enumerate(j["llvm"]["regions"]):
            lines = [l for l in j["llvm"]["llvm_asm"] if l["region"] == n]
            self.assertEqual(len(host_code(lines)), r["code_size"])
            self.assertEqual(objdump_code(host_code(lines)), {l["offset"]: l["bytes"] for l in lines})
            self.assertLessEqual({l["block"] for l in lines}, {-1} | {b for b, block in enumerate(j["blocks"]) if block["region"] == n})
        self.assertEqual(j["llvm"]["code_size"], sum(r["code_size"] for r in j["llvm"]["regions"]))
        out = good("--hex", code, "--pc", "0x0", "--branches", "0", "--stage", "llvm_opt,llvm_asm")
        self.assertEqual(re.findall(r"^; (llvm_\w+) of region (\d) at (0x\w+), (\d) block", out, re.M),
                         [(s, *r) for s in ("llvm_opt", "llvm_asm") for r in (("0", "0x0", "1"), ("1", "0x2", "2"))])

    def test_columns(self):
        lines = good("--hex", LOOP, "--side-by-side", "--no-summary", "--stage", "in_asm,llvm_ir,llvm_opt,llvm_asm", "--width", "180").splitlines()
        self.assertLessEqual(max(map(len, lines)), 180)
        row = next(line for line in lines if line.startswith("1002: 01f8"))
        self.assertRegex(row.split(" | ")[3], r"^ *[0-9a-f]+: \w+")
        self.assertTrue(any("add i32" in line for line in lines[lines.index(row):][:20]))
        self.assertFalse([line for line in lines if "DILocation" in line or "target triple" in line])
        self.assertTrue(any("@region_1000(" in line for line in lines[lines.index("; region 0 at 0x1000"):]))


@unittest.skipIf(LLVM, "built with LLVM")
class WithoutLlvm(Test):
    def test_refused(self):
        for stage in ["llvm_ir", "llvm_opt", "in_asm,llvm_asm"]:
            status, out, err = ir("--hex", ADD, "--stage", stage)
            self.assertEqual((status, out), (2, ""))
            self.assertRegex(err, r"^tierce-ir: .*TIERCE_LLVM=OFF.*\n$")

    def test_json(self):
        self.assertNotIn("llvm", good("--hex", ADD, "--json"))


class Input(Test):
    def test_hex_forms(self):
        want = good("--hex", ADD)
        for text in ["4801d8c3", "48,01,D8,C3", "0x48 0x01 0xd8 0xc3", r"\x48\x01\xd8\xc3", " 48\n01\td8 c3 "]:
            self.assertEqual(good("--hex", text), want)

    def test_bits(self):
        for bits, text in [("16", "mov ax, 0x1234"), ("32", "mov eax, 0x89001234"), ("64", "mov eax, 0x89001234")]:
            self.assertIn(text, good("--hex", "b8 34 12 00 89 d8 c3", "--bits", bits, "--stage", "in_asm"))
        self.assertIn("pc_bits 16", good("--hex", "90", "--bits", "16", "--stage", "ir"))

    def test_cpl(self):
        """CLI is done at level 0, and raises #GP at level 3."""
        self.assertNotEqual(good("--hex", "fa", "--cpl", "0", "--stage", "ir"), good("--hex", "fa", "--cpl", "3", "--stage", "ir"))

    def test_cpu(self):
        """POPCNT is an instruction of the one model, #UD on the other."""
        self.assertIn("popcnt.i64", good("--hex", "f3480fb8c3", "--stage", "ir"))
        self.assertNotIn("popcnt.i64", good("--hex", "f3480fb8c3", "--stage", "ir", "--cpu", "x86-64-v2,-popcnt"))

    def test_mode(self):
        for args in [["--bits", "64"], ["--bits", "32", "--cpl", "0"], ["--bits", "16"]]:
            mode = as_json("--hex", "fa 8b 07 c3", *args)["mode"]
            self.assertEqual(good("--hex", "0f b6 c3 c3", "--mode", hex(mode)), good("--hex", "0f b6 c3 c3", *args))
            self.assertEqual(as_json("--hex", "fa 8b 07 c3", "--mode", hex(mode))["blocks"][0]["ir"], as_json("--hex", "fa 8b 07 c3", *args)["blocks"][0]["ir"])

    def test_pc(self):
        out = good("--hex", LOOP, "--pc", "0xffffffff81000000")
        self.assertIn("0xffffffff81000002", out)
        self.assertIn("to guest 0xffffffff81000002", out)

    def test_file(self):
        with tempfile.NamedTemporaryFile() as f:
            f.write(b"\xcc" * 5 + bytes.fromhex(ADD) + b"\xcc")
            f.flush()
            self.assertEqual(good("--file", f.name, "--offset", "5", "--size", "4"), good("--hex", ADD))
            self.assertIn("int3", good("--file", f.name))

    def test_blocks(self):
        """Where jumps lead to and where blocks end, blocks begin; what CALL calls is another's."""
        def starts(code, *args):
            return [int(b["pc"], 16) for b in as_json("--hex", code, "--pc", "0x0", *args)["blocks"]]
        self.assertEqual(starts(LOOP), [0, 2])
        self.assertEqual(starts(LOOP, "--branches", "0"), [0, 2, 8])
        self.assertEqual(starts("eb 01 cc c3"), [0, 3])
        self.assertEqual(starts("e8 02 00 00 00 c3 90 c3"), [0, 5])
        self.assertEqual(starts("ff d0 c3"), [0, 2])
        self.assertEqual(starts("ff e0 c3"), [0])
        self.assertEqual(starts("0f a2 c3"), [0])
        self.assertEqual(starts("90 " * 9 + "c3", "--insns", "4"), [0, 4, 8])
        self.assertEqual(starts("74 00 74 00 74 00 c3", "--branches", "0"), [0, 2, 4, 6])
        self.assertEqual(len(starts("74 00 " * 20, "--blocks", "3")), 3)
        self.assertEqual(as_json("--hex", "eb 01 cc c3")["unreached"], 1)
        self.assertIn("1 bytes belong to no block", good("--hex", "eb 01 cc c3"))

    def test_elf(self):
        """Functions of our own: their instructions are objdump's, all but filling where no jump table leads to some."""
        whole = 0
        for name in ["options_trace_parse", "options_trace_help", "options_help", "options_parse"]:
            want = objdump(TIERCE, "-d", "--disassemble=" + name)
            j = as_json("--elf", TIERCE, "--symbol", name, "--blocks", "1000", "--stage", "in_asm")
            got = {int(i["pc"], 16): i["bytes"] for b in j["blocks"] for i in b["insns"]}
            self.assertEqual(got, {pc: code for pc, code in want.items() if pc in got})
            self.assertEqual(j["unreached"], sum(len(code) // 2 for pc, code in want.items() if pc not in got))
            self.assertEqual(int(j["blocks"][0]["pc"], 16), min(want))
            whole += all(re.match(r"(66)*(2e)?(0f1f|90)", code) for pc, code in want.items() if pc not in got)
        self.assertGreater(whole, 0)

    def test_elf_bits(self):
        """ELF files for i386 are 32-bit code; a label without size ends at the next one."""
        want = symbols("gdb")["_start"]
        block = as_json("--elf", guest("gdb"), "--symbol", "_start")["blocks"][0]
        self.assertEqual(int(block["pc"], 16), want)
        self.assertIn("pc_bits 32", block["ir"][0])
        self.assertIn("pc_bits 64", as_json("--elf", guest("gdb"), "--symbol", "work", "--bits", "64")["blocks"][0]["ir"][0])


class Text(Test):
    def code_of(self, *args, **more):
        """Template code, without the text of guest instructions, which IR text does not carry, and without helpers' addresses."""
        out = re.sub(r"48b\w{17}  mov (\w+), 0x\w+ +; ", r"mov \1 to ", good(*args, "--stage", "out_asm", "--no-summary", **more))
        return "".join(line for line in out.splitlines(True) if not line.startswith(";"))

    def test_round_trip(self):
        for code in [ADD, LOOP, "f2 0f 58 c1 66 0f ef d2 c3", "48 8b 07 48 89 46 08 48 ff c0 74 f4 c3", "f3 a4 c3"]:
            for more in [[], ["--icount"]]:
                text = good("--hex", code, "--stage", "ir", *more)
                self.assertEqual(self.code_of("--ir", "-", *more, input=text), self.code_of("--hex", code, *more))
                self.assertEqual(good("--ir", "-", "--stage", "ir", "--no-summary", input=text), good("--hex", code, "--stage", "ir", "--no-summary", *more))

    def test_places(self):
        """PCs come with the text, or follow one another."""
        text = "".join(line for line in good("--hex", LOOP, "--stage", "ir").splitlines(True) if not line.startswith(";"))
        pcs = re.findall(r"^; ir of block \d at (0x\w+)", good("--ir", "-", "--stage", "ir", "--pc", "0x400000", input=text), re.M)
        self.assertEqual(pcs, ["0x400000", "0x400009"])

    def test_without_header(self):
        out = good("--ir", "-", "--stage", "ir_opt,out_asm", input="%0 = const.i64 #0x7\nput.i64 %0 #rcx\nleave.void !0 #0x2\n")
        self.assertIn("put.i64 %0 #rcx", out)
        self.assertIn("mov r9d, 0x7", out)

    def test_mistakes(self):
        for text, what in [("frob\n", "line 1: no such operation"), ("\n\n%0 = add.i64 %1, %2\n", "line 3: an operand is not defined"),
                           ("block pc_bits 64 guest_insns 1 guest_bytes 1\ninsn.void !1 #0x0\njump.void #0x1\nblock pc_bits 9\n", "line 4: the header is wrong"),
                           ("%0 = const.i64 #0x1\n", ""), ("", "no block"), ("%0 = code.i64 !4 #0x0\nleave.void !0 #0x0\n", "guest bytes")]:
            status, out, err = ir("--ir", "-", input=text)
            self.assertEqual((status, out), (1, ""), text)
            self.assertRegex(err, r"^tierce-ir: '-': .*%s.*\n$" % re.escape(what))

    def test_mangled(self):
        """Whatever becomes of the text, it is printed or refused in one line."""
        source, rnd = good("--hex", LOOP + "f20f58c1", "--stage", "ir"), random.Random(7)
        for _ in range(50):
            text = list(source)
            for _ in range(rnd.randrange(1, 6)):
                at = rnd.randrange(len(text))
                text[at:at + rnd.randrange(3)] = rnd.choice("%#!_,.0123456789abcdef\n ;")
            status, out, err = ir("--ir", "-", *(["--stage", "llvm_asm"] if LLVM else []), input="".join(text))
            self.assertIn(status, (0, 1), err)
            self.assertEqual(err.count("\n"), status)


class Counts(Test):
    def add(self, counts, backend):
        return {way: {k: sum(c[backend][way][k] for c in counts) for k in ("insns", "bytes", "spill_loads", "spill_stores")} for way in ("hot", "cold")}

    def of_lines(self, lines):
        def of(way):
            return {"insns": len(way), "bytes": sum(len(l["bytes"]) // 2 for l in way), "spill_loads": sum(l["spill_load"] for l in way), "spill_stores": sum(l["spill_store"] for l in way)}
        return {"hot": of([l for l in lines if not l["cold"]]), "cold": of([l for l in lines if l["cold"]])}

    def check(self, *args):
        j = as_json(*args)
        for b in j["blocks"]:
            parts = [i["count"] for i in b["insns"]] + [b["other"]]
            self.assertEqual(self.add(parts, "tcg"), b["total"]["tcg"])
            self.assertEqual(self.of_lines(b["out_asm"]), b["total"]["tcg"])
            self.assertEqual(sum(b["total"]["tcg"][way]["bytes"] for way in ("hot", "cold")), b["code_size"])
            for stage in "ir", "ir_opt":
                self.assertEqual(sum(p[stage + "_ops"] for p in parts), b["total"][stage + "_ops"])
                self.assertEqual(len(b[stage]) - 1 - len(b["insns"]), b["total"][stage + "_ops"])  # less the header and the marks
            for i in b["insns"]:
                self.assertEqual(len(i["bytes"]) // 2, i["length"])
        self.assertEqual(self.add([b["total"] for b in j["blocks"]], "tcg"), j["total"]["tcg"])
        if "llvm" in j:
            region = j["llvm"]
            self.assertEqual(self.add([{"llvm": region["other"]}] + [b["total"] for b in j["blocks"]], "llvm"), j["total"]["llvm"])
            self.assertEqual(self.of_lines(region["llvm_asm"]), j["total"]["llvm"])
            self.assertEqual(sum(j["total"]["llvm"][way]["bytes"] for way in ("hot", "cold")), region["code_size"])
            for b in j["blocks"]:
                self.assertEqual(self.add([i["count"] for i in b["insns"]] + [b["other"]], "llvm"), b["total"]["llvm"])
        self.assertEqual(sum(i["length"] for b in j["blocks"] for i in b["insns"]), j["guest_bytes"])
        self.assertEqual(sum(len(b["insns"]) for b in j["blocks"]), j["guest_insns"])
        return j

    def test_sums(self):
        for code in [ADD, LOOP, "0f 0b", "c5 f8 77", "f3 a4 c3"]:
            self.check("--hex", code)
        self.check("--hex", LOOP, "--icount")
        self.check("--elf", TIERCE, "--symbol", "options_trace_parse")

    def test_spills(self):
        """Seven loaded values that wait for a call-free but long instruction need more than the five registers of a block."""
        loads = "".join("48 8b %02x %02x " % (0x47 | (k & 1) << 3, 8 * k) for k in range(4))
        j = self.check("--hex", "48 0f b1 0f 4c 0f c1 07 48 0f c7 0f f0 48 0f b1 0f" + loads + "c3", "--insns", "64")
        t = {k: j["total"]["tcg"]["hot"][k] + j["total"]["tcg"]["cold"][k] for k in ("spill_loads", "spill_stores")}
        lines = [l for b in j["blocks"] for l in b["out_asm"]]
        for l in lines:
            m = re.search(r"\[rsp\+0x([0-9a-f]+)\]", l["text"], re.I)
            self.assertEqual(l["spill_load"] or l["spill_store"], bool(m and int(m.group(1), 16) >= 144 and not l["text"].startswith("lea")), l["text"])
        self.assertGreater(t["spill_stores"], 0)
        self.assertGreater(t["spill_loads"], 0)

    def test_table(self):
        """The text's table has JSON's numbers."""
        j = as_json("--hex", LOOP)
        total, hot, cold = j["total"], j["total"]["tcg"]["hot"], j["total"]["tcg"]["cold"]
        row = re.search(r"^; total: 9 guest instructions, 2 blocks (.*)$", good("--hex", LOOP, "--stage", "in_asm"), re.M).group(1)
        numbers = [int(n) for n in re.findall(r"\d+", row)]
        self.assertEqual(numbers[:9], [j["guest_bytes"], total["ir_ops"], total["ir_opt_ops"], hot["insns"], hot["bytes"],
                                       hot["spill_loads"], hot["spill_stores"], cold["insns"], cold["bytes"]])


class Columns(Test):
    def columns(self, *args, **more):
        return good("--hex", LOOP, "--side-by-side", "--no-summary", *args, **more).splitlines()

    def test_width(self):
        for n in [60, 90, 140]:
            for args, env in [(["--width", str(n)], {}), ([], {"COLUMNS": str(n)})]:
                widths = [len(line.rstrip()) for line in self.columns(*args, env={**os.environ, **env})]
                self.assertLessEqual(max(widths), n)
        env = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
        self.assertEqual(self.columns(env=env), self.columns("--width", "100"))
        self.assertEqual(max(len(line) for line in self.columns("--stage", "in_asm,ir,ir_opt,out_asm", env=env)), 100)

    def test_table(self):
        for n, stage in [(100, "in_asm"), (80, "ir"), (112, "llvm_asm"), (150, "llvm_asm")]:
            if LLVM or "llvm" not in stage:
                table = good("--hex", LOOP, "--stage", stage, "--hot", "--width", str(n))
                rows = [line for line in table[table.index("; guest instruction"):].splitlines() if " | " in line]
                self.assertLessEqual(max(map(len, rows)), n)
                self.assertEqual({row.index(" | ") for row in rows}, {rows[0].index(" | ")})

    def test_terminal(self):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\0\x48\0\0\0\0\0")  # 24 lines of 72
        p = subprocess.Popen([TIERCE_IR, "--hex", ADD, "--side-by-side", "--no-summary", "--hot"], stdout=slave)
        os.close(slave)
        reader = Reader(master)
        while p.poll() is None or reader.more(0):
            reader.more(0.05)
        os.close(master)
        self.assertEqual(reader.text.replace("\r\n", "\n"), good("--hex", ADD, "--side-by-side", "--no-summary", "--hot", "--width", "72"))

    def test_aligned(self):
        """Each guest instruction's row begins with it, its IR and its code; what the columns hold is what the stages print."""
        lines = self.columns("--width", "200", "--hot")
        at = next(i for i, line in enumerate(lines) if line.startswith("1002: 01f8  add eax, edi"))
        cells = [c.strip() for c in lines[at].split(" | ")]
        self.assertEqual(cells[1], "insn.void !2 #0x2")
        self.assertRegex(cells[2], r"^[0-9a-f]+: ")
        plain = good("--hex", LOOP, "--stage", "out_asm", "--hot", "--no-summary")
        want = re.findall(r"^ +([0-9a-f]+):  [0-9a-f]+ +(.+?)(?: +; .*)?$", plain, re.M)
        got = [c.split(" ; ")[0] for line in lines if line.count(" | ") == 2 for c in [line.split(" | ")[2].strip()] if re.match(r"[0-9a-f]+: ", c)]
        self.assertEqual(got, ["%s: %s" % pair for pair in want])

    def test_narrow(self):
        """What does not fit goes on in the next line, nothing is lost."""
        def words(width):
            return sorted("".join(line.split(" | ")[0].strip() for line in self.columns("--width", width, "--stage", "in_asm,ir,out_asm", "--hot") if " | " in line).replace(" ", ""))
        self.assertEqual(words("50"), words("200"))


class Mistakes(Test):
    def test_usage(self):
        h = ["--hex", ADD]
        for args, pattern in [([], "no code to look at"), ([*h, "--ir", "x"], "more than one"), (["--hex", "4"], "'4' is no byte"), (["--hex", "zz"], "'zz'"), (["--hex", ""], "no byte in it"),
                              ([*h, "--frob"], "unknown option '--frob'"), (["x"], "unknown option 'x'"), (["--hex"], "needs a value"), ([*h, "--json=1"], "takes no value"),
                              ([*h, "--bits", "48"], "accepted are 16, 32 and 64"), ([*h, "--cpl", "4"], "from 0 to 3"), ([*h, "--cpl", "-1"], "from 0 to 3"), ([*h, "--bits", "16", "--cpl", "3"], "real mode"),
                              ([*h, "--pc", "x"], "accepted is a number"), ([*h, "--pc", "0x10000000000000000"], "accepted is a number"), ([*h, "--stage", "in_asm,frob"], "accepted are in_asm,ir,"), ([*h, "--stage", ""], "accepted are"),
                              ([*h, "--insns", "0"], "from 1 to"), ([*h, "--width", "5"], "from 40 to"), ([*h, "--cpu", "z80"], "unknown model 'z80'"), ([*h, "--mode", "5", "--bits", "32"], "without --bits"),
                              ([*h, "--mode", "0x100000000"], "32 bits"), ([*h, "--offset", "1"], "go with --file"), (["--elf", TIERCE], "needs --symbol"), ([*h, "--symbol", "x"], "more than one|needs --elf"),
                              ([*h, "--json", "--side-by-side"], "one of them"), ([*h, "--accesses", "frob"], "accepted are aligned, moving,"), (["--ir", "-", "--stage", "in_asm"], "no guest bytes")]:
            status, out, err = ir(*args, input="")
            self.assertEqual((status, out), (2, ""), args)
            self.assertRegex(err, r"^tierce-ir: .*(%s).*\n$" % pattern)

    def test_failures(self):
        for args, pattern in [(["--file", "/nonexistent"], "No such file"), (["--file", TIERCE, "--offset", "1000000000"], "has \\d+ bytes"), (["--elf", __file__, "--symbol", "x"], "no ELF file"),
                              (["--elf", TIERCE, "--symbol", "no_such"], "has no function no_such"), (["--hex", "48"], "cut off: 1 of its bytes"), (["--hex", "90 0f"], "cut off"), (["--ir", "/nonexistent"], "No such file")]:
            status, out, err = ir(*args)
            self.assertEqual((status, out), (1, ""), args)
            self.assertRegex(err, r"^tierce-ir: .*(%s).*\n$" % pattern)

    def test_help(self):
        out = good("--help")
        for word in ["--hex", "--elf", "--stage", "llvm_asm", "--width"]:
            self.assertIn(word, out)
        self.assertEqual(good("-h"), out)

    def test_full_disk(self):
        with open("/dev/full", "w") as f:
            r = subprocess.run([TIERCE_IR, "--hex", ADD], stdout=f, stderr=subprocess.PIPE, text=True)
        self.assertEqual((r.returncode, r.stderr), (1, "tierce-ir: the output cannot be written\n"))

    def test_random_bytes(self):
        rnd = random.Random(3)
        for n in range(40):
            code = bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 120))) + b"\xcc" * 15
            j = as_json("--hex", code.hex(), "--bits", rnd.choice(["16", "32", "64"]), *([] if n % 2 else ["--icount"]))
            self.assertEqual(int(j["blocks"][0]["pc"], 16), 0x1000)


if __name__ == "__main__":
    main()
