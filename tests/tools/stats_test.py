"""--stats: JSON that parses, text with the same, clocks that add up to the whole, counts that fit the guest."""
import json, os, re, unittest
from lib import *


def names():
    """The table of counters, from its source."""
    rows = re.findall(r"^COUNTER\((\w+),\s*(\w+),", text(os.path.join(SOURCE, "runtime/stats.def")), re.M)
    return [name + "_ms" if unit == "cycles" else name for name, unit in rows]


def stats(*args, name="gdb", append="g"):
    status, out, err = run("-kernel", guest(name), "-append", append, "-serial", "null", "-monitor", "none", "--stats=json", *args)
    return json.loads(err)


class Stats(unittest.TestCase):
    def clocks(self, s):
        return {k: v for k, v in s.items() if k.endswith("_ms") and k != "total_ms"}

    def test_adds_up(self):
        for tier in ["interp", "tcg"]:
            s = stats("--tier=" + tier)
            self.assertEqual(list(s), names() + ["lacked"])
            self.assertAlmostEqual(sum(self.clocks(s).values()), s["total_ms"], delta=0.01 * s["total_ms"] + 0.02)
            self.assertTrue(all(v >= 0 for v in self.clocks(s).values()), s)

    def test_counts(self):
        self.assertGreater(stats()["once"], 10)
        s = stats("--translate=first")
        self.assertEqual(s["once"], 0)
        self.assertEqual((s["faults"], s["interrupts"], s["evictions"], s["invalidations"]), (1, 0, 0, 0))
        self.assertTrue(20 <= s["blocks"] <= 60 and s["block_insns"] > s["blocks"] and s["block_bytes"] > s["block_insns"], s)
        self.assertGreater(s["code_bytes"], s["block_bytes"])
        self.assertGreater(s["port_io"], 0)
        for clock in ["decode_ms", "lift_ms", "passes_ms", "emit_ms", "dispatch_ms"]:
            self.assertGreater(s[clock], 0, clock)
        s = stats("--tier=interp")
        self.assertEqual((s["translated_ms"], s["helpers_ms"], s["emit_ms"], s["code_bytes"]), (0, 0, 0, 0))
        self.assertGreater(s["interpreted_ms"], 0)

    def test_idle_and_stopped(self):
        """A guest that waits is idle; a machine that is held is stopped."""
        with Process("-kernel", guest("reset"), "-append", "h", "-serial", "null", "-monitor", "stdio", "--stats=json") as p:
            p.expect(r"\) $")
            time.sleep(0.4)
            p.type("stop\n")
            p.expect(r"\) $")
            time.sleep(0.2)
            p.type("quit\n")
            s = json.loads(p.expect(r"\{.*\}").group(0))
        self.assertGreater(s["idle_ms"], 150)
        self.assertGreater(s["stopped_ms"], 100)
        self.assertGreater(s["idle_ms"] + s["stopped_ms"], 0.5 * s["total_ms"])

    def test_lacked(self):
        """AVX is not there: the instruction is counted by name."""
        s = stats("-no-reboot", name="reset", append="v")
        self.assertEqual(set(s["lacked"]), {"vaddps"})

    def test_text(self):
        status, out, err = run("-kernel", guest("reset"), "-append", "v", "-no-reboot", "-serial", "null", "--stats", "-monitor", "none")
        lines = {line.split()[0]: line for line in err.splitlines()}
        for name in names():
            self.assertIn(name.removesuffix("_ms"), lines)
        self.assertRegex(lines["total"], r" ms 100.0 %")
        self.assertRegex(lines["vaddps"], r"vaddps +[1-9]\d*$")


if __name__ == "__main__":
    main()
