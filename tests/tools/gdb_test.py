"""The gdb stub: by gdb itself, on a small guest and on Debian's kernel, and by packets of our own."""
import os, re, signal, subprocess, tempfile, time, unittest
from lib import *

AT = symbols("gdb")


def gdb(path, *commands, timeout=60):
    """Runs gdb's commands, those of the first, ;-separated, before it connects to `path`; what it printed."""
    words = ["gdb", "-batch", "-nx", "-q", "-ex", "set pagination off", "-ex", "set confirm off", "-ex", "set language c", "-ex", "set tcp connect-timeout 10",
             "-ex", "set remotetimeout 10"]
    for c in filter(None, commands[0].split(";")):
        words += ["-ex", c]
    words += ["-ex", "target remote %s" % path]
    for c in commands[1:]:
        words += ["-ex", c]
    r = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL)
    return r.stdout


class WithGuest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.dir.name, "gdb")

    def tearDown(self):
        self.dir.cleanup()

    def start(self, *args, name="gdb"):
        p = Process("-kernel", guest(name), "-display", "none", "-serial", "null", "-gdb", "unix:" + self.path, *args)
        self.addCleanup(p.close)
        wait_until(lambda: os.path.exists(self.path))
        return p

    def in_order(self, out, *patterns):
        at = 0
        for pattern in patterns:
            m = re.compile(pattern, re.M).search(out, at)
            self.assertIsNotNone(m, "no %r in:\n%s" % (pattern, out[at:]))
            at = m.end()


class Gdb(WithGuest):
    ELF32 = "file " + guest("gdb")
    ELF = ELF32 + ";set architecture i386:x86-64"

    def test_session(self):
        """All that one does in a session, in both tiers and with counted time; the guest then ends as it does by itself."""
        for how in ["--tier=interp", "--tier=tcg", "--icount"]:
            with self.subTest(how=how):
                p = self.start("-S", how)
                out = gdb(self.path, self.ELF, "p/x $rip", "break work", "continue", "p/x $rip", "p $rcx", "ignore 1 41", "continue", "p $rcx", "delete",
                          "watch *(int*)%d" % AT["target"], "continue", "p/x $rip", "delete", "rwatch *(int*)%d" % AT["target"], "continue", "p/x $rip", "delete",
                          "awatch *(char*)%d" % (AT["filled"] + 60), "continue", "p/x $rip", "delete",
                          "hbreak loop64", "continue", "p/x $r8", "p/x $r15", "p/x $xmm3.uint128", "p $st0", "p $st1", "p/x $fs_base", "p/x $cr0", "p/x $efer", "p/x $cs", "p/x $ftag",
                          "p/x $fctrl", "p/x $mxcsr", "stepi", "p/x $rip", "stepi", "p/x $rip", "stepi", "p/x $rip", "delete",
                          "set var $r8 = 0x99", "p/x $r8", "p/x $eflags = 0x46", "p $eflags", "set var $xmm3.v4_int32[1] = 7", "p $xmm3.v4_int32[1]",
                          "set var *(int*)%d = 1" % AT["go_on"], "break handler", "continue", "x/2gx $rsp", "p/x $cr2", "monitor info status", "monitor p $rip", "monitor bogus",
                          "delete", "continue")
                self.in_order(out, r"= 0x%x$" % AT["_start"], "Breakpoint 1, ", r"= 0x%x$" % AT["work"], r"^\$3 = 100$", "Breakpoint 1, ", r"^\$4 = 58$",
                              r"atchpoint 2: ", "Old value = 0\nNew value = 4660", "= 0x%x$" % AT["read_here"], "Value = 4660", "= 0x%x$" % (AT["read_here"] + 6), r"Old value = 0", r"New value = 90",
                              "= 0x%x$" % AT["copy_here"], "= 0x1122334455667788$", "= 0x8877665544332211$", "= 0x400921fb54442d18$", r"= 1$", r"= 3.14159265358979323851$",
                              "= 0xfe76543210$", r"= 0x[e8]0000013$", "= 0x500$", "= 0x8$", "= 0xfff$", "= 0x37f$", "= 0x1f80$",
                              "= 0x%x$" % (AT["loop64"] + 6), "= 0x%x$" % (AT["loop64"] + 13), "= 0x%x$" % AT["loop64"], "= 0x99$", r"= \[ PF ZF \]", "= 7$",
                              ", handler", r"0x0000000000000000\s+0x[0-9a-f]{16}", "= 0x12345678$", "VM status: paused", "0x%x" % AT["handler"], "unknown command: 'bogus'",
                              r"exited with code 0125")
                self.assertEqual(p.wait(), 0x55)

    def test_32_bit_model(self):
        """A CPU without long mode is described as i386."""
        p = self.start("-S", "-cpu", "pentium3")
        out = gdb(self.path, self.ELF32, "show architecture", "break after_work", "continue", "info registers eip esp ecx eflags", "p *(int*)%d" % AT["counter"], "p/x $cr0", "kill")
        self.in_order(out, "i386", "Breakpoint 1, ", r"eip\s+0x%x" % AT["after_work"], r"ecx\s+0x0", "= 100$", "= 0x60000011$")
        self.assertEqual(p.wait(), 0)

    def test_interrupt_and_detach(self):
        """Ctrl-C stops a guest that runs; detaching leaves it running, without breakpoints."""
        p = self.start()
        g = subprocess.Popen(["gdb", "-nx", "-q", "-ex", "set pagination off", "-ex", "set confirm off", "-ex", self.ELF32, "-ex", "set architecture i386:x86-64", "-ex", "target remote " + self.path], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        r = Reader(g.stdout.fileno())

        def say(line):
            g.stdin.write(line.encode() + b"\n")
            g.stdin.flush()
        r.expect(r"\(gdb\) ")
        say("hbreak loop64")
        say("continue")
        r.expect("Breakpoint 1, ")
        say("delete")
        say("continue")
        r.expect("Continuing")
        time.sleep(0.2)
        g.send_signal(signal.SIGINT)
        r.expect("SIGINT")
        say("p $rip >= %d && $rip < %d" % (AT["loop64"], AT["loop64"] + 15))
        r.expect("= 1")
        say("break loop64")
        say("set var *(int*)%d = 1" % AT["go_on"])
        say("detach")
        r.expect("detached")
        self.assertEqual(p.wait(), 0x55)
        say("quit")
        g.wait(SECONDS)
        g.stdin.close()
        g.stdout.close()

    def test_connection_lost(self):
        """gdb may die: the guest goes on, and another may come."""
        p = self.start("-S")
        for _ in range(2):
            s = Socket(self.path)
            s.send("$Z0,%x,1#%02x" % (AT["work"], sum(("Z0,%x,1" % AT["work"]).encode()) & 255))
            s.expect("OK")
            s.close()
            time.sleep(0.05)
        self.assertIsNone(p.p.poll())
        out = gdb(self.path, self.ELF, "p $rip >= %d" % AT["loop64"], "kill")
        self.assertIn("= 1", out)
        self.assertEqual(p.wait(), 0)


class Packets(WithGuest):
    def connect(self, *args, **how):
        self.p = self.start("-S", *args, **how)
        self.s = Socket(self.path)
        self.addCleanup(self.s.close)

    def ask(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.s.send(b"$" + data + b"#%02x" % (sum(data) & 255))
        return self.s.expect(r"\$([^#]*)#[0-9a-f]{2}").group(1)

    def test_packets(self):
        self.connect("-append", "g")
        ask = self.ask
        self.assertIn("PacketSize=4000", ask("qSupported:multiprocess+"))
        self.assertEqual(ask("?"), "T05thread:01;")
        self.assertEqual(ask("vMustReplyEmpty"), "")
        self.assertEqual(ask("vCont?"), "vCont;c;C;s;S")
        self.assertEqual(ask("qemu"), "")
        self.assertEqual((ask("qC"), ask("qfThreadInfo"), ask("qsThreadInfo"), ask("qAttached"), ask("Hg0"), ask("T01")), ("QC01", "m01", "l", "1", "OK", "OK"))
        # Registers: all, one, to be written, and none such.
        everything = ask("g")
        self.assertEqual(everything[:16], "02b0ad2b00000000")
        self.assertEqual(ask("p10"), (AT["_start"]).to_bytes(8, "little").hex())
        self.assertEqual(ask("P0=8877665544332211"), "OK")
        self.assertEqual(ask("p0"), "8877665544332211")
        self.assertEqual(ask("G" + everything), "OK")
        self.assertEqual(ask("p0"), "02b0ad2b00000000")
        self.assertEqual((ask("pffff"), ask("Pffff=00"), ask("P0=zz"), ask("p"), ask("P12=11110000")), ("E22", "E22", "E22", "E22", "E22"))
        # Memory.
        self.assertEqual(ask("m100000,4"), "02b0ad1b")
        self.assertEqual(ask("M300000,3:0a0b0c"), "OK")
        self.assertEqual(ask(b"X300003,4:}\x03}\x04}]}\x0a"), "OK")
        self.assertEqual(ask("m300000,7"), "0a0b0c23247d2a")
        self.assertEqual((ask("mffffffffff,1"), ask("Mffffffffff,1:00"), ask("m100000,99999"), ask("m,"), ask("M300000,3:0a")), ("E14", "E14", "E22", "E22", "E22"))
        # Breakpoints and steps.
        self.assertEqual((ask("Z0,%x,1" % AT["work"]), ask("z1,%x,1" % AT["work"]), ask("z0,%x,1" % AT["work"]), ask("Z9,0,1")), ("OK", "OK", "E22", ""))
        self.assertEqual((ask("qqemu.sstepbits"), ask("qqemu.sstep"), ask("Qqemu.sstep=1"), ask("qqemu.sstep")), ("ENABLE=1,NOIRQ=2,NOTIMER=4", "0x7", "OK", "0x1"))
        self.assertEqual(ask("s"), "T05thread:01;")
        self.assertEqual(ask("vCont;s:1;c"), "T05thread:01;")
        self.assertEqual(ask("p10"), (AT["_start"] + 11).to_bytes(8, "little").hex())
        # A checksum that is wrong is asked for again, and so may an answer be.
        self.s.send("$p10#00")
        self.s.expect("-")
        self.s.send("-")
        self.s.expect(re.escape((AT["_start"] + 11).to_bytes(8, "little").hex()))
        # The description, in pieces.
        pieces, at = "", 0
        while True:
            piece = ask("qXfer:features:read:target.xml:%x,100" % at)
            pieces += piece[1:]
            at += 0x100
            if piece[0] == "l":
                break
        self.assertIn("i386:x86-64", pieces)
        self.assertEqual(pieces.count("<reg "), 65)
        self.assertEqual(ask("qXfer:features:read:nonsense.xml:0,100"), "E00")
        # `monitor`, and a guest that ends.
        self.assertIn("paused".encode().hex(), ask("qRcmd," + b"info status".hex()))
        self.assertEqual(self.s.expect(r"\$([^#]*)#").group(1), "OK")
        self.assertEqual(ask("QStartNoAckMode"), "OK")
        self.assertEqual(ask("c"), "W55")
        self.assertEqual(self.p.wait(), 0x55)

    def test_physical_memory(self):
        """With 8 MiB mapped a linear address beyond is nothing; a physical one is."""
        self.connect()
        self.ask("Z1,%x,1" % AT["loop64"])
        self.assertEqual(self.ask("c"), "T05thread:01;")
        self.assertEqual(self.ask("m1000000,2"), "E14")
        self.assertEqual(self.ask("Qqemu.PhyMemMode:1"), "OK")
        self.assertEqual((self.ask("qqemu.PhyMemMode"), self.ask("m1000000,2")), ("1", "0000"))
        self.assertEqual(self.ask("mfee00030,4"), "14000500")  # the local APIC's version
        self.assertEqual(self.ask("Qqemu.PhyMemMode:0"), "OK")
        self.assertEqual(self.ask("m1000000,2"), "E14")

    def pc(self):
        return int.from_bytes(bytes.fromhex(self.ask("p10")), "little")

    def test_step_over_rep(self):
        """Each element is a step, as with TF; and the end of the count is one more."""
        for how in [["--tier=interp"], ["--tier=tcg"], ["--tier=tcg", "--check=interp"]]:
            with self.subTest(how=how):
                self.connect(*how)
                ask, rep = self.ask, AT["copy_here"] - 2
                self.assertEqual((ask("Z0,%x,1" % rep), ask("c"), ask("z0,%x,1" % rep)), ("OK", "T05thread:01;", "OK"))
                for left in range(63, -1, -1):
                    self.assertEqual(ask("s"), "T05thread:01;")
                    self.assertEqual((self.pc(), int.from_bytes(bytes.fromhex(ask("p2")), "little")), (rep if left else AT["copy_here"], left))
                    self.assertEqual(ask("m%x,2" % (AT["filled"] + 63 - left)), "5a00" if left else "5a" + ask("m%x,1" % (AT["filled"] + 64)))
                self.s.send("$k#6b")
                self.assertEqual(self.p.wait(), 0)
                self.doCleanups()

    def test_segments(self):
        """In protected mode a selector loads its descriptor, or is refused as the guest's MOV would be."""
        CS, SS, DS, FS, FS_BASE = "P12", "P13", "P14", "P16", "p39"
        self.connect()
        ask = self.ask
        self.assertEqual((ask("Z1,%x,1" % AT["loop64"]), ask("c")), ("OK", "T05thread:01;"))
        self.assertEqual(ask(FS_BASE), "10325476fe000000")
        self.assertEqual((ask(FS + "=10000000"), ask(FS.lower()), ask(FS_BASE)), ("OK", "10000000", "0" * 16))
        self.assertEqual((ask(DS + "=00000000"), ask(DS.lower()), ask(SS + "=10000000")), ("OK", "00000000", "OK"))
        # Beyond the GDT; not writable, or of another privilege, for SS; CS.
        self.assertEqual((ask(FS + "=18000000"), ask(SS + "=08000000"), ask(SS + "=13000000"), ask(CS + "=10000000")), ("E22",) * 4)
        self.assertEqual((ask(FS.lower()), ask(SS.lower()), ask(CS.lower())), ("10000000", "10000000", "08000000"))
        self.assertEqual(ask("s"), "T05thread:01;")

    def ticks(self, at):
        return int.from_bytes(bytes.fromhex(self.ask("m%x,4" % at)), "little")

    def test_steps_and_interrupts(self):
        """By default a step takes no interrupt and no time; QEMU's sstep bits let in either."""
        at = symbols("tick")
        for tier in ["interp", "tcg"]:
            with self.subTest(tier=tier):
                self.connect("-append", "l", "--tier=" + tier, name="tick")
                ask = self.ask
                self.assertEqual((ask("Z0,%x,1" % at["loop"]), ask("c"), ask("c"), ask("z0,%x,1" % at["loop"])), ("OK", "T05thread:01;", "T05thread:01;", "OK"))
                before, counted = self.ticks(at["ticks"]), int.from_bytes(bytes.fromhex(ask("p0")), "little")
                places = [at["loop"] + 1, at["loop"] + 2, at["loop"]]  # exactly, one after the other
                for i in range(300):
                    self.assertEqual(ask("s"), "T05thread:01;")
                    self.assertEqual(self.pc(), places[i % 3])
                self.assertEqual(int.from_bytes(bytes.fromhex(ask("p0")), "little"), counted + 100)
                self.assertEqual(self.ticks(at["ticks"]), before)
                self.assertEqual(ask("Qqemu.sstep=3"), "OK")  # time goes on, but no interrupt is let in
                for i in range(100):
                    ask("s")
                    self.assertEqual(self.pc(), places[i % 3])
                self.assertEqual(ask("Qqemu.sstep=1"), "OK")
                for i in range(20000):
                    ask("s")
                    if not at["loop"] <= self.pc() < at["loop_end"]:
                        break
                self.assertEqual(self.pc(), at["tick"])  # before the handler's first instruction
                ask("s")
                self.assertEqual(self.pc(), at["tick"] + 1)
                ask("Z0,%x,1" % at["tick"])
                for i in range(3):
                    before = self.ticks(at["ticks"])
                    self.assertEqual(ask("c"), "T05thread:01;")
                    self.assertEqual((self.pc(), self.ticks(at["ticks"]) - before), (at["tick"], 1))
                self.s.send("$k#6b")
                self.assertEqual(self.p.wait(), 0)
                self.doCleanups()

    def test_step_over_halt(self):
        """A step at HLT halts the CPU; the next waits for the interrupt that wakes it."""
        at = symbols("tick")
        self.connect("-append", "h", name="tick")
        ask = self.ask
        self.assertEqual((ask("Z0,%x,1" % at["halting"]), ask("c"), ask("z0,%x,1" % at["halting"])), ("OK", "T05thread:01;", "OK"))
        ask("s")
        self.assertEqual(self.pc(), at["halting"] + 1)
        ask("s")
        self.assertEqual(self.pc(), at["halted"])
        ask("s")
        self.assertEqual(self.pc(), at["tick"])

    def test_stopped_by_others(self):
        """A monitor's `stop` is told to gdb."""
        monitor = os.path.join(self.dir.name, "m")
        self.connect("-append", "l", "-monitor", "unix:%s,server,nowait" % monitor, name="tick")
        self.s.send("$c#63")
        m = Socket(monitor)
        self.addCleanup(m.close)
        time.sleep(0.1)
        m.send("stop\n")
        self.assertEqual(self.s.expect(r"\$([^#]*)#").group(1), "T02thread:01;")
        self.s.send("$c#63")
        time.sleep(0.1)
        m.send("info status\n")
        m.expect("VM status: running")

    def test_stopped_by_power_off(self):
        self.connect("-append", "p", "-no-shutdown", name="reset")
        self.assertEqual(self.ask("c"), "T02thread:01;")

    def test_garbage(self):
        """Whatever comes over the socket, tierce goes on."""
        self.connect()
        random = __import__("random").Random(7)
        for i in range(300):
            body = bytes(random.choice(b"gGpPmMXZzcsvqQHT?,:;=0123456789abcdef}*#$-+\x03\xff") for _ in range(random.randrange(40)))
            body = body.replace(b"#", b"")
            self.s.send(b"$" + body + b"#%02x" % (sum(body) & 255) if i % 3 else body)
        self.s.send(b"$" + b"m" * 70000 + b"#00")
        time.sleep(0.2)
        self.assertIsNone(self.p.p.poll())


class Kernel(WithGuest):
    def test_debian(self):
        """Debian's kernel, while it runs its shell: a system call is met, stepped through, and watched."""
        kernel, initrd = debian()
        with Process("-m", "256", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet", "-nographic", "-gdb", "unix:" + self.path) as p:
            p.expect("tierce guest ready", 60)
            time.sleep(0.3)

            def address(symbol):
                p.type("grep -w 'T %s\\|D %s\\|B %s' /proc/kallsyms | head -n1\n" % (symbol, symbol, symbol))
                return int(p.expect(r"([0-9a-f]{16}) \w %s\r" % symbol).group(1), 16)
            uname, jiffies = address("__x64_sys_newuname"), address("jiffies_64")
            p.type("sleep 1; uname -s\n")
            out = gdb(self.path, "", "hbreak *%d" % uname, "continue", "p/x $rip", "stepi", "p (long)$rip - %d" % uname, "p/x $cr0 & 0x80000001", "p/x $efer & 0x500", "p $cs & 3", "x/i $rip",
                      "delete", "set can-use-hw-watchpoints 1", "watch *(long*)%d" % jiffies, "continue", "continue", "p/x $rip", "delete", "monitor info registers", "detach")
            self.in_order(out, "Breakpoint 1, ", r"= 0x%x$" % uname, r"= ([1-9]|1[0-5])$", "= 0x80000001", "= 0x500", "= 0$", "=> 0x", "atchpoint 2", "Old value", "New value", "Old value", "New value",
                          "= 0xffffffff", r"CR3", "detached")
            p.expect("Linux")
            p.type("poweroff -f\n")
            self.assertEqual(p.wait(), 0)


if __name__ == "__main__":
    main()
