"""How a machine begins anew and how it ends: each way to reset and to power off, and what the options make of it."""
import unittest
from lib import *

RESET = ["-kernel", guest("reset"), "-nographic"]


class Reset(unittest.TestCase):
    def check(self, args, status, boots):
        got, out, err = run(*RESET, *args, timeout=10)
        self.assertEqual((got, out, err), (status, "".join("boot %d\n" % i for i in range(1, boots + 1)), ""))

    def test_each_way(self):
        """Port 0xcf9, keyboard controller, port 0x92, triple fault: again and again, then power-off with status 0."""
        for tier in ["interp", "tcg"]:
            for way in "ck9t":
                with self.subTest(way=way, tier=tier):
                    self.check(["--tier=" + tier, "-append", way], 0, 3)
                    self.check(["--tier=" + tier, "-append", way, "-no-reboot"], 0, 1)
        self.check(["-append", "c", "-action", "reboot=shutdown"], 0, 1)
        self.check(["-append", "c", "-no-reboot", "-action", "reboot=reset,shutdown=poweroff"], 0, 3)

    def test_counted(self):
        self.check(["--icount", "-append", "t"], 0, 3)

    def test_power_off(self):
        self.check(["-append", "p"], 0, 1)

    def test_no_shutdown(self):
        """The machine stands after power-off, can be looked at, and does not end until told to."""
        with Process("-kernel", guest("reset"), "-append", "p", "-no-shutdown", "-serial", "null", "-monitor", "stdio") as p:
            p.expect(r"\(tierce\)")
            def paused():
                p.type("info status\n")
                return "paused" in p.expect(r"VM status: (\w+)").group(1)
            wait_until(paused)
            p.type("quit\n")
            self.assertEqual(p.wait(), 0)

    def test_monitor_resets(self):
        with Process("-kernel", guest("talk"), "-nographic") as p:
            p.expect("ready")
            p.type("\x01csystem_reset\n")
            p.expect("ready")
            p.type("\x01cq")
            self.assertEqual(p.wait(), 3)

    def test_reset_while_stopped(self):
        with Process("-kernel", guest("talk"), "-nographic") as p:
            p.expect("ready")
            p.type("\x01cstop\nsystem_reset\ninfo status\n")
            p.expect("paused")
            p.type("cont\n")
            p.expect("ready")
            p.type("\x01cq")
            self.assertEqual(p.wait(), 3)


class Debian(unittest.TestCase):
    def test_reboot(self):
        """Debian's kernel, by its own `reboot`, comes up a second time; SysRq by Ctrl-A B reaches it."""
        kernel, initrd = debian()
        with Process("-m", "256", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet sysrq_always_enabled", "-nographic") as p:
            p.expect("tierce guest ready", 60)
            p.type("echo first; reboot -f\n")
            p.expect("\nfirst")
            p.expect("tierce guest ready", 60)
            time.sleep(0.3)
            p.type("\x01bh")
            p.expect("sysrq: HELP")
            p.type("\x01bo")  # SysRq O powers off
            self.assertEqual(p.wait(), 0)


if __name__ == "__main__":
    main()
