"""The command line: what is taken, and that each mistake gives one line with the mistake, the value and what is accepted."""
import os, struct, tempfile, unittest
from lib import *

TALK = guest("talk")
QUIT = ["-kernel", TALK, "-display", "none"]


def status_of(*args, input="q"):
    return run(*args, input=input)


class Wrong(unittest.TestCase):
    def wrong(self, status, words, *args):
        got, out, err = run(*args)
        self.assertEqual(got, status, (args, err))
        self.assertEqual(out, "", args)
        self.assertEqual(err.count("\n"), 1, (args, err))
        self.assertTrue(err.startswith("tierce: "), err)
        for word in words:
            self.assertIn(word, err, args)

    def test_usage(self):
        k = ["-kernel", TALK]
        for words, args in [
            (["-m", "'0'", "2M"], ["-m", "0"]), (["-m", "'1T'", "256G"], ["-m", "1T"]), (["'12x'"], ["-m", "12x"]), (["'-5'"], ["-m", "-5"]),
            (["'nan'"], ["-m", "nan"]), (["'512M,slots=2'"], ["-m", "512M,slots=2"]), (["-m", "argument"], ["-m"]), (["''"], ["-m", ""]),
            (["-smp", "'2'", "1"], ["-smp", "2"]), (["'cores=4'"], ["-smp", "cores=4"]), (["z80", "x86-64-v2", "486"], [*k, "-cpu", "z80"]),
            (["frob", "-cpu help"], [*k, "-cpu", "qemu64,+frob"]), (["frob"], [*k, "-cpu", "qemu64,frob=on"]), (["+feature"], [*k, "-cpu", "qemu64,aes"]), (["Cyrix", "GenuineIntel"], [*k, "-cpu", "qemu64,vendor=Cyrix"]),
            (["-frobnicate", "-help"], ["-frobnicate"]), (["--frob"], ["--frob=1"]), (["-kernel"], ["disk.img"]), (["-kernel", "argument"], ["-kernel"]),
            (["-device", "'e1000'", "isa-debug-exit"], ["-device", "e1000"]), (["iobase=zz"], ["-device", "isa-debug-exit,iobase=zz"]),
            (["iosize=3"], ["-device", "isa-debug-exit,iosize=3"]), (["x=1"], ["-device", "isa-debug-exit,x=1"]), (["65536"], ["-device", "isa-debug-exit,iobase=65536"]),
            (["-drive", "file=x", "-kernel"], ["-drive", "file=x"]), (["-hda", "x"], ["-hda", "x"]), (["-cdrom"], ["-cdrom", "x"]), (["-bios", "-kernel"], ["-bios", "x"]),
            (["-netdev", "none"], ["-netdev", "user,id=n"]), (["-nic"], ["-net", "user"]), (["-tier", "'jit'", "interp, tcg"], ["--tier=jit"]),
            (["fast", "interp, tcg, llvm, tiered, kvm"], ["--tier=fast"]), (["-accel", "'hvf'", "tcg", "kvm"], ["-accel", "hvf"]), (["-icount", "-tier kvm", "another tier"], [*k, "--tier=kvm", "--icount"]),
            (["-check", "-tier kvm"], [*k, "-enable-kvm", "--check=interp"]), (["kernel-irqchip=split", "kernel-irqchip=on|off"], ["-M", "pc,kernel-irqchip=split"]), (["kernel-irqchip=on", "-tier kvm"], [*k, "-M", "pc,kernel-irqchip=on"]), (["-enable-kvm", "no argument"], ["-enable-kvm=1"]), (["-machine", "q35", "pc"], ["-M", "q35"]), (["-display", "'gtk'", "none"], ["-display", "gtk"]),
            (["-serial", "'com7'", "stdio"], [*k, "-serial", "com7"]), (["tcp"], [*k, "-serial", "tcp:nowhere"]), (["99999"], [*k, "-serial", "tcp::99999"]),
            (["two serial"], [*k, "-serial", "null", "-serial", "null", "-serial", "null"]), (["stdio", "2 times", "mon:stdio"], [*k, "-serial", "stdio", "-monitor", "stdio"]),
            (["stdio"], [*k, "-serial", "stdio", "-debugcon", "stdio"]), (["mon:file:x"], [*k, "-serial", "mon:file:x"]), (["-monitor"], [*k, "-monitor", "frob"]),
            (["-d", "in_asm,frob", "in_asm,ir"], ["-d", "in_asm,frob"]), (["-d"], ["-d", ""]), (["-dfilter", "5"], [*k, "-dfilter", "5"]), (["9..5"], [*k, "-dfilter", "9..5"]),
            (["-stats", "'xml'", "json"], ["--stats=xml"]), (["-icount"], ["--icount=7"]), (["-no-reboot", "no argument", "'x'"], ["-no-reboot=x"]),
            (["nothing to run", "-kernel", "-restore"], []), (["-incoming", "'tcp:x'", "file:FILE"], ["-incoming", "tcp:x"]), (["-restore", "savevm"], ["-restore", ""]),
            (["-loadvm", "'x'", "-restore", "'y'"], ["-loadvm", "x", "-restore", "y"]), (["'a b'", "letters"], ["-loadvm", "a b"]), (["-initrd", "-kernel"], ["-initrd", TALK]), (["-append", "-kernel"], ["-append", "x"]),
            (["-gdb"], [*k, "-gdb", "file:x"]), (["-tb-size", "0"], ["-tb-size", "0"]), (["-translate", "'third'", "first or second"], ["-translate", "third"]), (["-cache", "''", "directory"], [*k, "--cache="]), (["-cache-size", "'0'", "MiB"], [*k, "--cache-size=0"]), (["-cache-remote", "'http://x'", "redis://"], [*k, "--cache-remote=http://x"]), (["-cache-layer", "-cache off"], [*k, "--cache=off", "--cache-layer=/x"]), (["-check", "'native'", "interp"], [*k, "--check=native"]), (["-check-skip", "'1k'", "number"], [*k, "--check-skip=1k"]), (["-check-skip", "'-1'"], [*k, "--check-skip", "-1"]), (["-check-skip", "-check"], [*k, "--check-skip=5"]), (["-check interp", "-tier interp", "another tier"], [*k, "--check=interp", "--tier=interp"]), (["-check", "argument"], ["-check"]), (["-action", "reboot=reset|shutdown"], ["-action", "reboot=maybe"]), (["-rtc"], ["-rtc", "base=localtime"]),
        ]:
            with self.subTest(args=args):
                self.wrong(2, words, *args)

    def test_kvm(self):
        """Without KVM: what is missing, and what to do.  With it: a guest that says something."""
        for args in (["--tier=kvm"], ["-accel", "kvm"], ["-enable-kvm"], ["-M", "pc,accel=kvm"]):
            with self.subTest(args=args):
                status, out, err = run(*args, "-kernel", TALK, "-m", "16", "-nographic", "-no-reboot", input="\x01x")
                if os.access("/dev/kvm", os.R_OK | os.W_OK):
                    self.assertEqual(status, 0, err)
                else:
                    self.assertEqual(status, 1, err)
                    for word in ("KVM", "/dev/kvm", "--tier"):
                        self.assertIn(word, err)

    def test_failures(self):
        with tempfile.TemporaryDirectory() as d:
            def file(name, content):
                path = os.path.join(d, name)
                with open(path, "wb") as f:
                    f.write(content)
                return path
            elf = content(TALK)
            arm = bytearray(elf)
            struct.pack_into("<H", arm, 18, 40)
            big = file("big", b"")
            os.truncate(big, 64 << 20)
            debian_kernel = content(debian()[0])
            arm64 = b"MZ" + bytes(54) + b"ARM\x64" + bytes(4096)
            for words, args in [
                (["/none", "No such file"], ["-kernel", "/none"]), (["not a regular file"], ["-kernel", d]), (["0 bytes"], ["-kernel", file("empty", b"")]),
                (["neither bzImage, ELF nor Multiboot", "23 21"], ["-kernel", file("script", b"#!/bin/sh\n")]),
                (["truncated"], ["-kernel", file("short", elf[:4200])]), (["ends inside its header"], ["-kernel", file("stub", elf[:20])]),
                (["machine 40", "3"], ["-kernel", file("arm", bytes(arm))]), (["initrd", "does not fit"], ["-kernel", TALK, "-m", "32", "-initrd", big]),
                (["/none", "No such file"], ["-kernel", TALK, "-initrd", "/none"]), (["-D", "/none/log", "No such file"], ["-kernel", TALK, "-D", "/none/log"]),
                (["bzImage is truncated", "by its header"], ["-kernel", file("half", debian_kernel[:len(debian_kernel) // 2])]),
                (["bzImage", "ends inside its setup header"], ["-kernel", file("head", debian_kernel[:0x240])]),
                (["needs", "RAM goes from", "0x1000000"], ["-m", "16M", "-kernel", file("whole", debian_kernel)]), (["neither bzImage", "4d 5a"], ["-kernel", file("arm64", arm64)]),
                (["serial0", "/none/out"], ["-kernel", TALK, "-serial", "file:/none/out"]), (["monitor", "/none/s"], ["-kernel", TALK, "-serial", "null", "-monitor", "unix:/none/s,server,nowait"]),
                (["serial0", "refused"], ["-kernel", TALK, "-serial", "tcp:127.0.0.1:1"]), (["command line of 70000 bytes"], ["-kernel", TALK, "-append", "x" * 70000]),
            ]:
                with self.subTest(args=args[:6]):
                    self.wrong(1, words, *args)


class Taken(unittest.TestCase):
    def test_sizes(self):
        """The guest's RAM ends where -m says: the monitor can read the last byte, and not the next."""
        for text, size in [("64", 64 << 20), ("64M", 64 << 20), ("size=48M", 48 << 20), ("0.25G", 256 << 20), ("32768k", 32 << 20), ("67108864b", 64 << 20)]:
            with self.subTest(m=text):
                line = "xp/1xb %d\nxp/1xb %d\nquit\n" % (size - 1, size)
                status, out, err = run("-m", text, "-kernel", TALK, "-serial", "null", "-monitor", "stdio", input=line)
                self.assertEqual(status, 0, err)
                self.assertRegex(out, r"%016x: 0x00\n" % (size - 1))
                self.assertRegex(out, r"%016x: Cannot access memory" % size)

    def test_accepted(self):
        for args in [["-smp", "1"], ["-smp", "cpus=1,cores=1"], ["--smp", "1"], ["-M", "pc"], ["-machine", "type=pc,accel=tcg"], ["-accel", "tcg,thread=single,tb-size=8"],
                     ["-nodefaults", "-serial", "stdio"], ["-name", "x"], ["-nic", "none"], ["-net", "none"], ["-vga", "none"], ["-rtc", "base=utc"], ["-tier", "interp"], ["--tier=tcg"],
                     ["-no-reboot", "--no-shutdown"], ["-cpu", "qemu64,+aes,-cx16"], ["-cpu", "qemu64,aes=on,cx16=off"], ["-cpu", "qemu64,vendor=GenuineIntel"], ["-icount", "shift=0"], ["--icount"], ["-serial", "mon:stdio"], ["-nographic"],
                     ["-m", "0x40"], ["-m", "16", "-m", "32"], ["-cpu", "qemu64", "-cpu", "x86-64-v2"], ["-append", "x"], ["-translate", "first"], ["--translate=second"]]:
            with self.subTest(args=args):
                status, out, err = status_of(*QUIT, *args)
                self.assertEqual((status, out), (3, "ready\n"), err)

    def test_last_wins(self):
        status, out, err = status_of("-kernel", "/none", "-kernel", TALK)
        self.assertEqual((status, out), (3, "ready\n"), err)

    def test_debug_exit_only_if_asked_for(self):
        """As QEMU has it: nothing answers at its port without -device."""
        for there, args in [(False, ["-device", "isa-debug-exit,iobase=0xf4"]), (True, ["-device", "isa-debug-exit"])]:
            status, out, err = run(*QUIT, *args, "-monitor", "stdio", "-serial", "null", input="o/b 0x501 0x11\nquit\n")
            self.assertEqual((status, err), (0x23 if there else 0, ""))
        with subprocess.Popen([TIERCE, *QUIT, "-monitor", "stdio", "-serial", "null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
            p.communicate(b"o/b 0x501 0x11\nquit\n", SECONDS)
            self.assertEqual(p.returncode, 0)

    def test_debug_exit_elsewhere(self):
        status, out, err = run(*QUIT, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-monitor", "stdio", "-serial", "null", input="o/b 0xf4 0x11\n")
        self.assertEqual(status, 0x23, err)

    def test_second_serial_port(self):
        with tempfile.TemporaryDirectory() as d:
            one, two = os.path.join(d, "1"), os.path.join(d, "2")
            status, _, err = run("-kernel", TALK, "-serial", "file:" + one, "-serial", "file:" + two, "-monitor", "stdio",
                                 input="o 0x2f8 'h'\no 0x2f8 'i'\nquit\n")
            self.assertEqual(status, 0, err)
            self.assertEqual(text(two), "hi")

    def test_debug_console(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "log")
            run("-kernel", TALK, "-debugcon", "file:" + path, "-serial", "null", "-monitor", "stdio", input="o 0xe9 'x'\nquit\n")
            self.assertEqual(text(path), "x")

    def test_help(self):
        status, out, err = run("-help")
        self.assertEqual((status, err), (0, ""))
        for word in ["-m SIZE", "-kernel FILE", "-stats[=json]", "-machine|-M pc", "-no-shutdown", "-dfilter"]:
            self.assertIn(word, out)
        self.assertEqual(run("--help")[1], out)
        self.assertEqual(run("-h")[1], out)
        self.assertIn("x86-64-v2", run("-cpu", "help")[1])
        items = [line.split()[0] for line in run("-d", "help")[1].splitlines()]
        self.assertIn("in_asm", items)
        self.assertIn("accepted: %s;" % ",".join(items), run("-d", "frob")[2])
        self.assertIn("nothing to run", run("-d", ",".join(items))[2])
        self.assertIn("isa-debug-exit", run("-device", "help")[1])
        self.assertRegex(run("-version")[1], r"^tierce \d")


class Fuzz(unittest.TestCase):
    def test_random_words(self):
        """No sequence of words crashes it, and each that is refused is refused in one line."""
        random = __import__("random").Random(11)
        options = re.findall(r"^  -([\w-]+)", run("-help")[1], re.M) + ["", "drive", "bios", "x", "-"]
        values = ["", "0", "-1", "1", "99999999999999999999", "none", "null", "pc", "tcg", "help,", "stdio", "mon:", "mon:mon:stdio", "tcp:", "tcp::", "tcp:::::1", "unix:", "file:", "pty,", ",", ",,,", "=", "a=b",
                  "in_asm,", ",in_asm", "0x1..", "..", "1+", "1-1", "1..0", "isa-debug-exit,", "isa-debug-exit,iobase=", "qemu64,", "qemu64,+", "486,,+aes", "%s%n%n", "x" * 5000, "\xff\xfe", "size=", "1.5.5G", "1e400", "NaNM", "inf", "json=", "shift="]
        with tempfile.TemporaryDirectory() as d:  # -D makes files
            for _ in range(300):
                args = []
                for _ in range(random.randrange(1, 5)):
                    args.append(random.choice(["-", "--"]) + random.choice(options) + random.choice(["", "", "=" + random.choice(values)]))
                    args += [random.choice(values)] * random.randrange(2)
                status, out, err = run(*args, "-kernel", "/none", timeout=10, cwd=d)
                self.assertIn(status, (0, 1, 2), (args, err))
                if status:
                    self.assertRegex(err, r"\A(char device .*\n)?tierce: [^\n]+\n\Z", args)


if __name__ == "__main__":
    main()
