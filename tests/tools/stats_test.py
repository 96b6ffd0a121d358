"""--stats: JSON that parses, text with the same, clocks that add up to the whole, counts that fit the guest."""
import json, os, re, unittest
from lib import *


def names():
    """The tables of counters and spreads, from their source."""
    table = text(os.path.join(SOURCE, "runtime/stats.def"))
    rows = re.findall(r"^COUNTER\((\w+),\s*(\w+),", table, re.M)
    return [name + "_ms" if unit == "cycles" else name for name, unit in rows] + SPREADS


SPREADS = re.findall(r"^SPREAD\((\w+),", text(os.path.join(SOURCE, "runtime/stats.def")), re.M)


def stats(*args, name="gdb", append="g"):
    status, out, err = run("-kernel", guest(name), "-append", append, "-serial", "null", "-monitor", "none", "--stats=json", *args)
    return json.loads(err)


class Stats(unittest.TestCase):
    def clocks(self, s):
        return {k: v for k, v in s.items() if k.endswith("_ms") and k != "total_ms" and k not in SPREADS}

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

    def test_tiers(self):
        """With --icount each guest instruction is counted in the tier that ran it, and all tiers run the same ones."""
        def insns(*args):
            s = stats("--icount", *args)
            return s["insns_interp"], s["insns_tcg"], s["region_run"]
        interp, tcg = insns("--tier=interp"), insns("--tier=tcg", "--translate=first")
        self.assertEqual(interp[1:], (0, 0))
        self.assertGreater(interp[0], 500)
        self.assertGreater(tcg[1], tcg[0])
        self.assertEqual((sum(tcg), tcg[2]), (interp[0], 0))
        if LLVM:
            llvm = insns("--tier=llvm")
            self.assertGreater(llvm[2], llvm[1])
            self.assertEqual(sum(llvm), interp[0])

    @unittest.skipUnless(LLVM, "a build without LLVM")
    def test_regions(self):
        """A loop that gets hot: how long its region took, what is sampled in it, and that it pays."""
        with Process("-kernel", guest("tick"), "-append", "l", "-serial", "null", "-monitor", "stdio", "--tier=tiered", "--stats=json", "--hot=20000",
                     "--symbols", guest("tick")) as p:
            p.expect(r"\(tierce\) $")
            for _ in range(300):
                p.type("info profile\n")
                said = p.expect(r"(?s).+\(tierce\) $").group(0)
                if "was entered" in said:
                    break
                time.sleep(0.05)
            time.sleep(0.3)
            p.type("quit\n")
            s = json.loads(p.expect(r"\{.*\}").group(0))
        at = symbols("tick")
        self.assertRegex(said, r"%x loop: 1 blocks, 3 instructions; recorded \d+ times?, .*its region was entered" % at["loop"])
        self.assertRegex(said, r"\n +\d+ x +3  %x loop  -> \d+ x %x loop" % (at["loop"], at["loop"]))
        self.assertGreaterEqual(s["regions"], 1)
        for name in ("region_wait_ms", "region_first_ms"):
            self.assertGreaterEqual(s[name]["count"], 1)
            self.assertTrue(0 < s[name]["min"] <= s[name]["median"] <= s[name]["max"], s[name])
        self.assertLessEqual(s["region_wait_ms"]["min"], s["region_first_ms"]["min"])
        self.assertGreater(s["samples_llvm"], s["samples_interp"])
        self.assertEqual((s["insns_tcg"], s["region_run"]), (0, 0))
        self.assertGreaterEqual(s["regions_paid"], 1)
        self.assertGreater(s["region_even"]["median"], 0)

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
            self.assertTrue(name in lines or name.removesuffix("_ms") in lines, name)
        self.assertRegex(lines["total"], r" ms 100.0 %")
        self.assertRegex(lines["vaddps"], r"vaddps +[1-9]\d*$")


if __name__ == "__main__":
    main()
