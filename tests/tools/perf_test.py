"""What perf and gdb are told of translated code, and the guest's function names in it."""
import os, re, struct, subprocess, tempfile, unittest
from lib import *

AT = symbols("gdb")
WORK = AT["work"]


def run_guest(*args):
    status, out, err = run("-kernel", guest("gdb"), "-append", "g", "-serial", "null", "-monitor", "none", *args)
    if status != 0x55 or out or err:
        raise AssertionError((args, status, out, err))


class Case(unittest.TestCase):
    def setUp(self):
        d = tempfile.TemporaryDirectory()
        self.addCleanup(d.cleanup)
        self.dir = d.name

    def path(self, name):
        return os.path.join(self.dir, name)

    def file(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
        return self.path(name)

    def log(self, *args):
        run_guest("-D", self.path("log"), *args)
        return text(self.path("log"))


class Symbols(Case):
    def names(self, *args):
        """By the address of each block, the name in its heading."""
        log = self.log("-d", "in_asm", *args)
        return {int(at, 16): name for name, at in re.findall(r"^IN:(?: (.*))?\n0x([0-9a-f]+):", log, re.M)}

    def test_elf(self):
        """All that the guest's file names is named, and each block by the symbol before it."""
        code = sorted((at, name) for name, at in AT.items() if 0x100000 <= at < AT["counter"] and name != "MAGIC")
        names = self.names("--symbols", guest("gdb"))
        self.assertGreater(len(names), 15)
        for at, name in names.items():
            before = [n for a, n in code if a == max(a for a, _ in code if a <= at)]
            self.assertIn(name, before, hex(at))
        self.assertEqual(names[WORK], "work")

    def test_without(self):
        self.assertEqual(set(self.names().values()), {""})

    def test_map(self):
        """Data ends what is before it; a module's name, and what is not code, is none."""
        system_map = "%016x T one\n%016x t two\t[module]\n%016x D data\n%016x T last\n" % (AT["_start"], WORK, WORK + 1, AT["loop64"])
        for path in [self.file("System.map", system_map), self.file("with@sign", system_map), self.file("crlf", system_map.replace("\n", "\r\n"))]:
            names = self.names("--symbols", path)
            self.assertEqual([names[AT[n]] for n in ("_start", "work", "long_mode", "handler")], ["one", "two", "", "last"])

    def test_best_of_an_address(self):
        lines = ["%x T __text" % WORK, "%x t local" % WORK, "%x T best" % WORK, "%x D data" % WORK]
        for given in [lines, lines[::-1]]:
            self.assertEqual(self.names("--symbols", self.file("m", "\n".join(given)))[WORK], "best")

    def test_offset(self):
        """Several files, each with its offset, forth and back."""
        a, b = self.file("a", "%x T early\n" % (AT["_start"] - 0x1000)), self.file("b", "%x T later\n" % (WORK + 0x5000))
        for offset in ["0x1000", "4096"]:
            names = self.names("--symbols", a + "@" + offset, "--symbols", b + "@-0x5000")
            self.assertEqual((names[AT["_start"]], names[WORK]), ("early", "later"))

    def test_libraries(self):
        """Names of the dynamic table alone, and of a 64-bit file."""
        source = self.file("x.s", ".globl exported\n.type exported, @function\nexported: nop\nret\n.size exported, .-exported\n")
        library = self.path("x.so")
        subprocess.run(["gcc", "-shared", "-nostdlib", "-s", source, "-o", library], check=True)
        at = [line.split()[0] for line in subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout.splitlines() if "exported" in line][0]
        names = self.names("--symbols", "%s@%d" % (library, WORK - int(at, 16)))
        self.assertEqual([name for name in names.values() if name], ["exported"])

    def test_wrong(self):
        elf = bytearray(content(guest("gdb")))
        arm, object_file = bytearray(elf), bytearray(elf)
        struct.pack_into("<H", arm, 18, 40)
        struct.pack_into("<H", object_file, 16, 1)
        stripped = self.path("stripped")
        subprocess.run(["strip", "-o", stripped, guest("gdb")], check=True)
        for path, words in [
            ("/none", ["'/none'", "No such file"]), (self.dir, ["Is a directory"]), ("/none@0x10", ["'/none'", "No such file"]), ("/none@x", ["'/none@x'"]),
            (self.file("arm", arm), ["another machine"]), (self.file("o", object_file), ["not linked"]), (stripped, ["no function symbols"]),
            (self.file("short", elf[:20]), ["damaged"]), (self.file("empty", ""), ["no function symbols"]), (self.file("text", "Hello\n"), ["no symbol in line 1"]),
            (self.file("half", "1000 T good\n1001 T \n"), ["line 2"]), (self.file("high", "12345678901234567 T x\n"), ["line 1"]),
            (self.file("zeros", "0000000000000000 T startup_64\n"), ["no function symbols"]), (self.file("data", "1000 D data\n"), ["no function symbols"]),
        ]:
            with self.subTest(path=path):
                status, out, err = run("-kernel", guest("gdb"), "--symbols", path)
                self.assertEqual((status, out, err.count("\n")), (1, "", 1), err)
                for word in ["tierce: --symbols: '", "; accepted: FILE or FILE@OFFSET", "System.map", *words]:
                    self.assertIn(word, err)

    def test_damaged(self):
        """A file with bytes changed is refused in one line, or taken for what it says."""
        elf = content(guest("gdb"))
        header = struct.unpack_from("<I", elf, 32)[0]
        for at in [*range(16, 52), *range(header, header + 40 * 6, 3)]:
            damaged = bytearray(elf)
            damaged[at] ^= 0x55
            status, out, err = run("-kernel", guest("gdb"), "-append", "g", "-serial", "null", "-monitor", "none", "--symbols", self.file("damaged", damaged))
            self.assertTrue(status in (0x55, 1) and err.count("\n") == (status == 1), (at, status, err))


CODE = sorted((at, name) for name, at in AT.items() if 0x100000 <= at < AT["counter"] and name != "MAGIC")


def named(linear):
    """What a block there may be called: more than one symbol can be at an address."""
    at = max(a for a, _ in CODE if a <= linear)
    return [name + ("+0x%x" % (linear - at) if linear > at else "") for a, name in CODE if a == at]


class Code(Case):
    GUEST = ["-kernel", guest("gdb"), "-append", "g", "-serial", "null", "-monitor", "none", "--translate=first"]

    def run_traced(self, *args):
        """The guest's instructions by address, its blocks' host code by address, and the process's number."""
        with subprocess.Popen([TIERCE, *with_exit(self.GUEST), "-d", "in_asm,out_asm", "-D", self.path("log"), *args]) as p:
            self.addCleanup(lambda: os.path.exists("/tmp/perf-%d.map" % p.pid) and os.unlink("/tmp/perf-%d.map" % p.pid))
            self.assertEqual(p.wait(SECONDS), 0x55)
        log = text(self.path("log"))
        out = []
        for size, pc, lines in re.findall(r"^OUT: \[size=(\d+)\] for 0x([0-9a-f]+)\n((?:.+\n)+)", log, re.M):
            code = re.findall(r"^0x([0-9a-f]+):  ([0-9a-f]+) ", lines, re.M)
            out.append((int(code[0][0], 16), int(size), int(pc, 16), bytes.fromhex("".join(c for _, c in code))))
        asm = {int(at, 16): insn for block in log.split("-" * 16 + "\n")[1:] for at, insn in re.findall(r"^0x([0-9a-f]+):  [0-9a-f]+ +(\S.*)$", block.split("\nOUT")[0], re.M)}
        return asm, out, p.pid

    def test_map(self):
        """A line for each block, in order: where, how long, what."""
        for args, names in [(["--symbols", guest("gdb")], named), ([], lambda pc: ["%x" % pc])]:
            _, out, pid = self.run_traced("--perf-map", *args)
            lines = [re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) tcg:(\S+)", line).groups() for line in text("/tmp/perf-%d.map" % pid).splitlines()]
            self.assertGreater(len(lines), 15)
            self.assertEqual([(int(at, 16), int(size, 16)) for at, size, _ in lines], [(at, size) for at, size, _, _ in out])
            for (_, _, name), (_, _, pc, _) in zip(lines, out):
                self.assertIn(name, names(pc))

    def test_interpreter(self):
        _, _, pid = self.run_traced("--perf-map", "--jitdump=" + self.dir, "--tier=interp")
        self.assertEqual(text("/tmp/perf-%d.map" % pid), "")
        self.assertEqual([r[0] for r in self.records(pid)], [3])

    def test_off(self):
        """Nothing is written that was not asked for."""
        _, _, pid = self.run_traced()
        self.assertEqual((os.path.exists("/tmp/perf-%d.map" % pid), os.listdir(self.dir)), (False, ["log"]))
        _, _, pid = self.run_traced("--jitdump=" + self.dir)
        self.assertFalse(os.path.exists("/tmp/perf-%d.map" % pid))

    def records(self, pid):
        """The file's records after its header: (id, time, content)."""
        data = content(self.path("jit-%d.dump" % pid))
        magic, version, size, machine, _, owner, _, flags = struct.unpack_from("<IIIIIIQQ", data)
        self.assertEqual((magic, version, size, machine, owner, flags), (0x4a695444, 1, 40, 62, pid, 0))
        found = []
        while size < len(data):
            kind, length, when = struct.unpack_from("<IIQ", data, size)
            self.assertGreaterEqual(length, 16)
            found.append((kind, when, data[size + 16:size + length]))
            size += length
        self.assertEqual(size, len(data))
        return found

    def lines_of(self, body):
        """Address, and (address, line, file) of each line."""
        address, count = struct.unpack_from("<QQ", body)
        at, lines = 16, []
        for _ in range(count):
            where, line, discriminator = struct.unpack_from("<QII", body, at)
            end = body.index(0, at + 16)
            lines.append((where, line, body[at + 16:end].decode()))
            self.assertEqual(discriminator, 0)
            at = end + 1
        self.assertEqual(at, len(body))
        return address, lines

    def test_jitdump(self):
        before = time.monotonic_ns()
        asm, out, pid = self.run_traced("--symbols", guest("gdb"), "--jitdump=" + self.dir)
        records, guest_file = self.records(pid), self.path("jit-%d-guest.s" % pid)
        source = text(guest_file).splitlines()
        times = [before, *(r[1] for r in records), time.monotonic_ns()]
        self.assertEqual(times, sorted(times))
        self.assertEqual([r[0] for r in records], [2, 0] * len(out) + [3])
        covered = set()
        for i, (at, size, pc, code) in enumerate(out):
            (_, _, lines), (_, _, load) = records[2 * i:2 * i + 2]
            owner, thread, vma, address, length, index = struct.unpack_from("<IIQQQQ", load)
            self.assertEqual((owner, vma, address, length, index), (pid, at, at, size, i + 1))
            self.assertNotEqual(thread, pid)
            name, bytes_of = load[40:].split(b"\0", 1)
            self.assertEqual(bytes_of, code)
            self.assertIn(name.decode(), ["tcg:" + n for n in named(pc)])
            address, lines = self.lines_of(lines)
            self.assertEqual((address, lines[0][0]), (at, at))
            wheres = [where for where, _, _ in lines]
            self.assertEqual(wheres, sorted(wheres))
            self.assertLess(wheres[-1], at + size)
            self.assertEqual({path for _, _, path in lines}, {guest_file})
            for n, (_, line, _) in enumerate(lines):
                linear, name, insn = re.fullmatch(r"0x([0-9a-f]{8,}) <(\S+)>  (\S.*)", source[line - 1]).groups()
                linear = int(linear, 16)
                self.assertEqual(insn, asm[linear])
                self.assertIn(name, named(linear))
                self.assertEqual(linear == pc, n == 0 or linear == pc)
                covered.add(linear)
        self.assertEqual(covered, set(asm))
        self.assertEqual(len(source), len(set(source)))

    @unittest.skipUnless(LLVM, "a build without LLVM")
    def test_regions(self):
        """Of each region name and code, and lines from its head on."""
        asm, _, pid = self.run_traced("--symbols", guest("gdb"), "--jitdump=" + self.dir, "--perf-map", "--tier=llvm")
        records, source = self.records(pid), text(self.path("jit-%d-guest.s" % pid)).splitlines()
        at_line = [int(line.split()[0], 16) for line in source]
        map_lines = [line.split() for line in text("/tmp/perf-%d.map" % pid).splitlines()]
        self.assertEqual([r[0] for r in records], [2, 0] * len(map_lines) + [3])
        heads = {}
        for i, (at, size, name) in enumerate(map_lines):
            if not name.startswith("llvm:"):
                continue
            (_, _, lines), (_, _, load) = records[2 * i:2 * i + 2]
            self.assertEqual(load[40:].split(b"\0")[0].decode(), name)
            self.assertEqual(struct.unpack_from("<QQ", load, 16), (int(at, 16), int(size, 16)))
            address, lines = self.lines_of(lines)
            self.assertEqual((address, lines[0][0]), (int(at, 16), int(at, 16)))
            self.assertTrue(all(address <= where < address + int(size, 16) for where, _, _ in lines))
            head = at_line[lines[0][1] - 1]
            self.assertIn(name[5:], named(head))
            for _, line, _ in lines: # some of it was never translated but in a region
                insn = source[line - 1].split("  ")[1]
                self.assertEqual(insn, asm.get(at_line[line - 1], insn))
                self.assertTrue(AT["_start"] <= at_line[line - 1] < AT["counter"])
            heads[head] = len({line for _, line, _ in lines})
        self.assertIn(AT["handler"], heads)
        self.assertGreater(max(heads.values()), 3)

    @unittest.skipUnless(LLVM, "a build without LLVM")
    def test_gdb(self):
        """A gdb that debugs the emulator finds the functions of regions."""
        gdb = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "set env ASAN_OPTIONS=detect_leaks=0", "-ex", "handle SIGSEGV nostop noprint pass",
               "-ex", "break regions_free", "-ex", "run", "-ex", "info functions ^region_work"]
        r = subprocess.run([*gdb, "--args", TIERCE, *with_exit(self.GUEST), "--tier=llvm", "--symbols", guest("gdb"), "--gdb-jit"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS * 3)
        self.assertIn("hit Breakpoint 1", r.stdout, r.stderr)
        self.assertRegex(r.stdout, r"(?m)^0x0000[0-9a-f]{12}  region_work(\+0x6)?$")

    def test_changed_code(self):
        """Other bytes at an address are another line, and the block that was made of them says so."""
        path = self.path("selfmod.elf")
        source = self.file("selfmod.S", """
            #include "multiboot.inc"
            .globl main
            main: mov $3, %ebx
            1:  movb %bl, patched + 1
                call patched
                dec %ebx
                jnz 1b
                mov $0x2a, %al
                mov $0x501, %dx
                out %al, %dx
            .balign 4096
            patched: mov $0x77777777, %eax
                ret
            """)
        guests = os.path.join(SOURCE, "tests/tools/guests")
        subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-I", guests, "-Wl,-m,elf_i386", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments",
                        "-Wl,-T," + os.path.join(guests, "guest.ld"), source, "-o", path], check=True)
        self.GUEST = [*self.GUEST, "-kernel", path]
        _, _, pid = self.run_traced("--jitdump=" + self.dir, "--symbols", path)
        lines = [line for line in text(self.path("jit-%d-guest.s" % pid)).splitlines() if "<patched>" in line]
        self.assertEqual([line.split()[-1] for line in lines], ["0x77777703", "0x77777702", "0x77777701"])

    def test_marker(self):
        """perf record finds the file because it is mapped to be executed."""
        with Process("-kernel", guest("gdb"), "-serial", "null", "-monitor", "stdio", "--jitdump=" + self.dir) as p:
            p.expect("tierce")
            dump = self.path("jit-%d.dump" % p.p.pid)
            self.assertRegex(text("/proc/%d/maps" % p.p.pid), r"(?m)^\S+ r-xp 00000000 .* %s$" % re.escape(dump))
            self.assertRegex(text("/proc/%d/maps" % p.p.pid), r"(?m)^\S+ r-xs 00000000 .* /dev/zero")
            p.type("quit\n")
            self.assertEqual(p.wait(), 0)
        self.assertEqual(self.records(p.p.pid)[-1][0], 3)

    def wrong(self, words, *args, **more):
        status, out, err = run(*self.GUEST, *args, **more)
        self.assertEqual((status, out, err.count("\n")), (1, "", 1), err)
        for word in words:
            self.assertIn(word, err)

    def test_wrong(self):
        self.wrong(["--jitdump", "'/none'", "No such file", "accepted: a directory"], "--jitdump=/none")
        self.wrong(["--jitdump", guest("gdb"), "Not a directory"], "--jitdump=" + guest("gdb"))
        target = self.file("precious", "precious")

        def lay(path):
            os.symlink(target, path % os.getpid())
        links = self.path("jit-%d.dump"), "/tmp/perf-%d.map"
        for link in links:
            self.wrong(["cannot write '", link.split("%")[0], "symbolic links"], "--jitdump=" + self.dir, "--perf-map", preexec_fn=lambda: lay(link))
        for link in os.listdir("/tmp"):
            if link.startswith("perf-") and os.path.islink("/tmp/" + link) and os.readlink("/tmp/" + link) == target:
                os.unlink("/tmp/" + link)
        self.assertEqual(content(target), b"precious")


if __name__ == "__main__":
    main()
