"""The monitor: its commands, formats, expressions and complaints, and the ways to reach it."""
import os, re, tempfile, unittest
from lib import *

AT = symbols("gdb")
TALK = ["-kernel", guest("talk"), "-serial", "null"]


def monitor(*lines, kernel="talk", args=()):
    """What each line says, on a machine that was started stopped."""
    with Process("-kernel", guest(kernel), "-serial", "null", "-S", "-monitor", "stdio", *args) as p:
        p.expect(r"\(tierce\) ")
        said = []
        for line in lines:
            p.type(line + "\n")
            at = p.reader.at
            p.expect(r"\(tierce\) ")
            said.append(p.reader.text[at:p.reader.at - len("(tierce) ")])
        p.type("quit\n")
        assert p.wait() == 0
        return said


class Commands(unittest.TestCase):
    def check(self, pairs, **how):
        lines = list(pairs)
        for line, want, got in zip(lines, pairs.values(), monitor(*lines, **how)):
            with self.subTest(line=line):
                self.assertRegex(got, "^(?:%s)$" % want)

    def test_expressions(self):
        self.check({
            "info profile": ".*(hot enough|without LLVM).*\n", "p 1+2*3": "0x7\n", "p (1+2)*3": "0x9\n", "p/d -5": "-5\n", "p/u 0xffffffffffffffff": "18446744073709551615\n", "p ~0": "0xf{16}\n", "p/c 0x41": "'A'\n", "p/c 10": r"'\\n'" "\n",
            "p/o 8": "010\n", "p 'a'": "0x61\n", "p 7 % 4 | 8": "0xb\n", "p 1 + 6 & 3": "0x3\n", "print 10/3": "0x3\n", "p 1-2": "0xf{16}\n", "p $rax": "0x2badb002\n", "p $eax": "0x2badb002\n",
            "p $cs": "0x10\n", "p $cs.limit": "0xffffffff\n", "p $ds.base": "0x0\n", "p $cr0 & 1": "0x1\n", "p $eflags": "0x2\n", "p $eip - $pc": "0x0\n", "p $dr7": "0x400\n", "p $mxcsr": "0x1f80\n",
            "p 1/0": "invalid expression: '1/0'\n", "p $nothing": r"invalid expression: '\$nothing'" "\n", "p (1": r"invalid expression: '\(1'" "\n", "p 1 2": "extraneous .*'2'\n", "p": ".*missing.*\n",
            "p/z 1": "invalid char in format: 'z'\n", "p 99999999999999999999": "invalid expression.*\n", "p " + "(" * 300 + "1": "invalid expression.*\n", "p " + "-" * 300 + "1": "invalid expression.*\n",
        })

    def test_memory(self):
        start = "%08x" % AT["_start"]
        got = monitor("x/2i $pc", "xp/2i %d" % AT["_start"], kernel="gdb")
        self.assertEqual(got[0], got[1])
        self.assertRegex(got[0], r"^0x%s:  mov esp, 0x[0-9A-F]+\n0x%08x:  mov \[0x[0-9A-F]+\], ebx\n$" % (start, AT["_start"] + 5))
        self.check({
            "x/4xb 0x100000": "0{10}100000: 0x02 0xb0 0xad 0x1b\n", "x/2xh 0x100000": "0{10}100000: 0xb002 0x1bad\n", "x 0x100000": "0{10}100000: 0x1badb002\n",
            "xp/1xg 0x100000": "0{10}100000: 0x000000001badb002\n", "x/1d 0x100008": r"0{10}100008: -464367618" "\n", "x/1u 0x100008": "0{10}100008: 3830599678\n", "x/1o 0x100000": "0{10}100000: 03353330002\n",
            "x/3c 0x100000": r"0{10}100000: '\\x02' '\\xb0' '\\xad'" "\n", "x/20xb 0x100000": "0{10}100000:( 0x..){16}\n0{10}100010:( 0x..){4}\n", "x/0x 0": "",
            "xp/1xw 0xfee00030": "0{8}fee00030: 0x00050014\n", "xp/1xw 0x7000000000": "0{6}7000000000: Cannot access memory\n", "xp/2i 0x7000000000": "0x7000000000:  Cannot access memory\n",
            "x": ".*missing.*\n", "x/q 0": "invalid char.*\n", "xp/1xb $nope": "invalid expression.*\n",
            "gva2gpa 0x1234": "gpa: 0x1234\n", "i 0x3fd": "portb.0x03fd. = 0x60\n", "i/w 0x3f8": "portl.*\n", "i/g 1": "ports are.*\n", "i 65536": "ports are.*\n", "o 0x3ff 0x5a": "", "i 0x3ff": ".*= 0x5a\n", "o 0x3ff": ".*missing.*\n",
        }, kernel="talk")

    def test_save(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "m")
            got = monitor("memsave 0x100000 5000 " + path, "pmemsave 0x7000000000 8 " + path + "2", "pmemsave 0 8", "memsave 0 1 /none/x")
            self.assertEqual(got[0], "")
            self.assertIn("Invalid addr", got[1])
            self.assertIn("usage", got[2])
            self.assertIn("No such file", got[3])
            self.assertEqual((len(content(path)), content(path)[:4]), (5000, b"\x02\xb0\xad\x1b"))

    def test_states(self):
        """Saved machines by name and by path; what is wrong with one is told, and nothing else happens."""
        with tempfile.TemporaryDirectory() as d:
            states, path, bad = os.path.join(d, "a", "b"), os.path.join(d, "p"), os.path.join(d, "bad")
            with open(bad, "w") as f:
                f.write("x" * 100)
            got = monitor("info snapshots", "savevm one", "savevm", "savevm " + path, "info snapshots", "o 0x3ff 0x5a", "loadvm one", "i 0x3ff", "delvm one", "loadvm one", "loadvm", "delvm",
                          "loadvm " + bad, "savevm a*b", "savevm .x", "savevm /none/x", "loadvm " + path, "info qtree", kernel="talk", args=("--state-dir", states))
            self.assertEqual(got[0], "There is no saved machine in %s.\n" % states)
            self.assertRegex(got[1], r"^saved %s/one.state: \d+ bytes, for \d+ bytes of RAM, in \d+ ms\n$" % states)
            self.assertRegex(got[2], r"^saved %s/vm-\d{14}.state: " % states)
            self.assertRegex(got[3], r"^saved %s: " % path)
            self.assertRegex(got[4], r"one +0\.\d MiB +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +00:00:00.\d{3} +128M  \w+\nvm-\d{14} ")
            self.assertRegex(got[6], r"^restored %s/one.state in \d+ ms\n$" % states)
            self.assertRegex(got[7], "= 0x00")
            self.assertEqual(got[8], "")
            self.assertEqual(got[9], "loadvm: cannot read %s/one.state: No such file or directory\n" % states)
            self.assertEqual(got[10], "loadvm: a name or path is missing\n")
            self.assertIn("a name is missing", got[11])
            self.assertEqual(got[12], "loadvm: %s: it is no saved state of tierce\n" % bad)
            self.assertIn("'a*b' is not accepted", got[13])
            self.assertIn("'.x' is not accepted", got[14])
            self.assertEqual(got[15], "savevm: cannot write /none/x: No such file or directory\n")
            self.assertRegex(got[16], "^restored ")
            self.assertRegex(got[17], r"(?s)  pc\n    wires = .*  lapic\n    timer = off\n.*  uart.1\n")

    def test_complaints(self):
        self.check({"bogus": "unknown command: 'bogus'\n", "quit now": "quit: extraneous characters at the end of line\n", "info bogus": "info: unknown item 'bogus'; accepted:\n(.*\n)+", "": "",
                    "help x": "x /fmt addr -- .*\n", "help bogus": "unknown command: 'bogus'\n", "log bogus": "log: unknown item 'bogus'.*\n", "logfile": ".*missing\n", "logfile /none/x": ".*cannot write '/none/x'\n"})

    def test_help_names_all(self):
        text, items = monitor("?", "info")
        for word in ["help|?", "info", "x /fmt", "xp", "print|p", "i /fmt", "o /fmt", "gva2gpa", "memsave", "pmemsave", "log ", "logfile", "stop|s", "cont|c", "savevm [name]", "loadvm name", "delvm name", "nmi", "system_reset", "system_powerdown", "quit|q"]:
            self.assertIn(word, text)
        for word in ["registers", "mem", "tlb", "mtree", "pic", "irq", "jit", "qtree", "snapshots", "status", "version"]:
            self.assertIn("info %s --" % word, items)

    def test_info(self):
        registers, cpus, mem, mtree, pic, irq, jit, status, version = monitor(*["info " + i for i in "registers cpus mem mtree pic irq jit status version".split()])
        self.assertRegex(registers, r"EIP=00%06x" % symbols("talk")["_start"])
        self.assertRegex(registers, r"EAX=2badb002")
        self.assertRegex(registers, r"XMM07=0{16} 0{16}")
        self.assertRegex(cpus, r"^\* CPU #0: pc=0x")
        self.assertEqual(mem, "PG disabled\n")
        for word in ["ram", "lapic", "ioapic", "hpet", "00000000000003f8", "uart"]:
            self.assertIn(word, mtree)
        self.assertRegex(pic, r"pic0: irr=\w\w imr=ff isr=00 hprio=0 irq_base=08")
        self.assertIn("LVT TIMER", pic)
        self.assertIn("IRQ statistics:", irq)
        self.assertIn("TB count", jit)
        self.assertEqual(status, "VM status: paused\n")
        self.assertRegex(version, r"^\d+\.\d+\n$")

    def test_page_tables(self):
        """The guest's own tables, in the form that QEMU gives them."""
        with Process("-kernel", guest("gdb"), "-serial", "null", "-monitor", "stdio") as p:
            def counter():
                p.type("xp/1d %d\n" % AT["counter"])
                return int(p.expect(r"%016x: +(-?\d+)\n" % AT["counter"]).group(1))
            wait_until(lambda: counter() > 1000)  # by then it counts in long mode
            p.type("stop\ninfo mem\n")
            p.expect(r"0000000000000000-0000000000800000 0000000000800000 -rw\n")
            p.type("info tlb\n")
            p.expect(r"0000000000000000: 0000000000000000 --PDA---W\n0000000000200000: 0000000000200000 --P-----W\n0000000000400000: 0000000000400000 --P[D-][A-]---W\n0000000000600000: 0000000000600000 --P-----W\n")
            p.type("info softmmu\n")
            p.expect(r"0000000000100000: 0000000000100000 r")
            p.type("quit\n")
            self.assertEqual(p.wait(), 0)


class Steering(unittest.TestCase):
    def test_stop_and_cont(self):
        with Process("-kernel", guest("gdb"), "-serial", "null", "-monitor", "stdio") as p:
            def value():
                p.type("xp/1d %d\n" % AT["counter"])
                return int(p.expect(r"%016x: +(-?\d+)\n" % AT["counter"]).group(1))
            first = value()
            wait_until(lambda: value() != first)
            p.type("stop\ninfo status\n")
            p.expect("paused")
            one = value()
            self.assertEqual(value(), one)
            p.type("c\ninfo status\n")
            p.expect("running")
            wait_until(lambda: value() != one)
            p.type("q\n")
            self.assertEqual(p.wait(), 0)

    def test_power_button(self):
        """ACPI's power button reaches the guest's PM status register, which it may look at."""
        got = monitor("i/h 0x600", "system_powerdown", "i/h 0x600")
        self.assertEqual((got[0], got[2]), ("portw[0x0600] = 0x0000\n", "portw[0x0600] = 0x0100\n"))

    def test_keys(self):
        """Pressed in order and released in the other, as the keyboard controller gives them to the guest."""
        got = monitor("sendkey a", *["i 0x60"] * 2, "i 0x64", "sendkey ctrl-delete", *["i 0x60"] * 6, "sendkey ctrl-bogus", "sendkey", "sendkey a-b-c-d-e-f")
        codes = [re.search(r"= 0x(\w\w)", line).group(1) for line in got if "= 0x" in line]
        self.assertEqual(codes, "1e 9e 14 1d e0 53 e0 d3 9d".split())
        self.assertEqual(got[-3:], ["unknown key: 'bogus'\n", "unknown key: ''\n", "too many keys: 'f'\n"])

    def test_nmi(self):
        """Without an interrupt table an NMI is a triple fault: the machine resets, or with -no-reboot ends."""
        with Process("-kernel", guest("talk"), "-no-reboot", "-nographic") as p:
            p.expect("ready")
            p.type("\x01cnmi\n")
            self.assertEqual(p.wait(), 0)

    def test_log(self):
        """Traces are turned on and off while it runs."""
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "log")
            with Process(*TALK, "-monitor", "stdio", "-S") as p:
                p.type("logfile %s\nlog in_asm,cpu\ncont\n" % path)
                wait_until(lambda: os.path.exists(path) and "IN:" in text(path))
                p.type("log none\nstop\nlog in_asm\nquit\n")
                self.assertEqual(p.wait(), 0)

    def test_unix_and_tcp_and_telnet(self):
        with tempfile.TemporaryDirectory() as d:
            path, port = os.path.join(d, "m"), free_port()
            with Process(*TALK, "-monitor", "unix:%s,server,nowait" % path, "-monitor", "telnet:127.0.0.1:%d,server,nowait" % port) as p:
                for _ in range(2):
                    s = Socket(path)
                    s.expect(r"tierce .* monitor - type 'help' for more information\n\(tierce\) ")
                    s.send("info status\n")
                    s.expect(r"VM status: running\n\(tierce\) ")
                    s.close()
                t = Socket(("127.0.0.1", port))
                t.expect("monitor")
                t.send(b"\xff\xfd\x01\xff\xfa\x18\x00x\xff\xf0info st\xff\xfd\x03atus\r\0")  # commands of telnet's between
                t.expect("info status")  # echoed
                t.expect("VM status: running")
                t.send("quit\r\n")
                self.assertEqual(p.wait(), 0)
                t.close()

    def test_monitor_elsewhere(self):
        """-monitor beside a serial port on standard output: they do not mix."""
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "m")
            with Process("-kernel", guest("talk"), "-serial", "stdio", "-monitor", "unix:%s,server,nowait" % path) as p:
                p.expect("ready")
                p.type("\x01c")
                p.expect("\\[\x01\\]\\[c\\]")  # Ctrl-A is a byte like any other
                s = Socket(path)
                s.expect(r"\(tierce\) ")
                s.send("system_reset\n")
                p.expect("ready")
                s.send("quit\n")
                self.assertEqual(p.wait(), 0)
                s.close()


if __name__ == "__main__":
    main()
