"""--switch-to and the monitor's `tier`: each trigger, both ways, and what is refused."""
import json, os, tempfile, time, unittest
from lib import *

TALK = guest("talk")
HAS_KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


class Handover(unittest.TestCase):
    def tier_after(self, *args, first="interp", said=(), typed="x"):
        """The tier that the monitor tells of, once the guest has answered."""
        p = Process("-kernel", TALK, "-m", "16", "-serial", "mon:stdio", "-display", "none", "--tier=" + first, *args)
        try:
            p.expect("ready")
            p.type(typed)
            p.expect(r"\[%s\]" % typed)
            p.type("\x01c")
            p.expect(r"\(tierce\) ")
            for line, answer in said:
                p.type(line + "\n")
                p.expect(answer)
            p.type("tier\n")
            tier = p.expect(r"(interp|tcg|llvm|tiered|kvm)\r?\n\(tierce\) ").group(1)
            p.type("\x01c")
            p.type("y")
            p.expect(r"\[y\]")
            return tier
        finally:
            p.close()

    def test_none(self):
        self.assertEqual(self.tier_after(), "interp")

    def test_triggers(self):
        at = symbols("talk")
        for trigger in ["1us", "console:ready", "console:[x]", "pc:0x%x" % at["listen"], "port:0x3fb", "port:0x3fb=3"]:
            with self.subTest(trigger=trigger):
                self.assertEqual(self.tier_after("--switch-to=tcg@" + trigger), "tcg")
        self.assertEqual(self.tier_after("--symbols", TALK, "--switch-to=tcg@pc:listen"), "tcg")
        for trigger in ["3600s", "console:other", "pc:0x%x" % at["deaf"], "port:0x3fb=4", "port:0x3ff", "monitor"]:
            with self.subTest(trigger=trigger):
                self.assertEqual(self.tier_after("--switch-to=tcg@" + trigger), "interp")

    def test_there_and_back(self):
        self.assertEqual(self.tier_after("--switch-to=tcg@port:0x3fb", "--switch-to=interp@console:[x]"), "interp")

    def test_monitor(self):
        self.assertEqual(self.tier_after(said=[("tier tcg", r"\) ")]), "tcg")
        self.assertEqual(self.tier_after(said=[("tier tcg", r"\) "), ("tier interp", r"\) ")]), "interp")
        self.assertEqual(self.tier_after(said=[("tier quick", "unknown tier 'quick'; accepted: interp tcg llvm tiered kvm")]), "interp")
        self.assertEqual(self.tier_after(said=[("tier kvm", "--switch-to=kvm@monitor")]), "interp")

    def test_counted(self):
        status, out, err = run("-kernel", guest("gdb"), "-append", "g", "-serial", "null", "-monitor", "none", "--tier=interp", "--stats=json", "--switch-to=tcg@100ns", "--switch-to=interp@200ns", "--icount",
                               "--switch-to=tcg@300ns", "-no-reboot")
        s = json.loads(err)
        self.assertEqual(s["handovers"], 3)
        self.assertGreaterEqual(s["handover_ns"], s["handover_most_ns"])
        self.assertGreater(s["handover_most_ns"], 0)

    @unittest.skipUnless(HAS_KVM, "no right to /dev/kvm, or no such device")
    def test_kvm(self):
        self.assertEqual(self.tier_after("--switch-to=kvm@console:ready", first="tcg"), "kvm")
        self.assertEqual(self.tier_after("--switch-to=tcg@console:[x]", first="kvm"), "tcg")
        self.assertEqual(self.tier_after("--switch-to=tcg@pc:0x%x" % symbols("talk")["heard_break"], first="kvm"), "kvm")
        for words in ["--switch-to=kvm@console:ready", "--switch-to=tcg@console:[x]"]:
            self.assertEqual(self.tier_after("-machine", "pc,kernel-irqchip=on", words, first={"k": "tcg", "t": "kvm"}[words[12]]), words[12:15])
        self.assertEqual(self.tier_after("--switch-to=kvm@monitor", said=[("tier kvm", r"\) ")]), "kvm")

    def ticks(self, *args, then=()):
        """How often a timer's interrupt had come, at first and half a second later, or until it had come at all."""
        with Process("-kernel", guest("tick"), "-append", "h", "-m", "16", "-serial", "null", "-monitor", "stdio", *args) as p:
            def look():
                p.type("x /1dw 0x%x\n" % symbols("tick")["ticks"])
                return int(p.expect(r": +(\d+)\r?\n\(tierce\) $").group(1))
            p.expect(r"\(tierce\) $")
            before = now = look()
            for _ in range(40):
                time.sleep(0.05)
                now = look()
                if now > before + 20:
                    break
            for line in then:
                p.type(line + "\n")
                p.expect(r"\(tierce\) $")
            p.type("quit\n")
            return before, now

    @unittest.skipUnless(HAS_KVM, "no right to /dev/kvm, or no such device")
    def test_kvm_saved(self):
        """What was saved under KVM, with its own interrupt controllers or the machine's, goes on in a tier and in KVM, with either."""
        with tempfile.TemporaryDirectory() as states:
            for irqchip in ["on", "off"]:
                path = os.path.join(states, irqchip)
                machine = ["-machine", "pc,kernel-irqchip=" + irqchip]
                before, saved = self.ticks("--tier=kvm", *machine, then=["savevm " + path])
                self.assertGreater(saved, before)
                other = ["-machine", "pc,kernel-irqchip=" + {"on": "off", "off": "on"}[irqchip]]
                for args in [["--tier=tcg", "--switch-to=kvm@monitor"], ["--tier=kvm", *machine], ["--tier=kvm", *other]]:
                    with self.subTest(args=args, saved=irqchip):
                        before, after = self.ticks("-restore", path, *args)
                        self.assertGreaterEqual(before, saved)
                        self.assertGreater(after, before)

    def test_refused(self):
        for value in ["tcg", "tcg@", "quick@1s", "tcg@1", "tcg@-1s", "tcg@1h", "tcg@console:", "tcg@pc:", "tcg@port:", "tcg@port:65536", "tcg@port:1=", "tcg@port:1=x", "tcg@later"]:
            with self.subTest(value=value):
                status, out, err = run("-kernel", TALK, "--switch-to=" + value)
                self.assertEqual(status, 2)
                self.assertIn("-switch-to: '%s'" % value, err)
                self.assertIn("console:TEXT", err)
        for words, args in [(["pc:nowhere", "--symbols"], ["--switch-to=tcg@pc:nowhere"]), (["pc:nowhere", "no file"], ["--symbols", TALK, "--switch-to=tcg@pc:nowhere"])]:
            status, out, err = run("-kernel", TALK, *args)
            self.assertEqual(status, 2)
            for word in words:
                self.assertIn(word, err)
        status, out, err = run("-kernel", TALK, "--check=interp", "--tier=tcg", "--switch-to=interp@1s")
        self.assertEqual(status, 2)


if __name__ == "__main__":
    unittest.main()
