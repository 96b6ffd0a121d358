"""--tier=kvm --sample: a guest that never ran translated leaves a profile, and what `tierce-cache build` compiles from it is found by the tiers."""
import json, os, shutil, subprocess, tempfile, unittest
from lib import *

CACHE = os.environ.get("TIERCE_CACHE_PROGRAM", "")
HAS_KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


@unittest.skipUnless(LLVM, "a build without LLVM")
class Sample(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def stats(self, rounds, *args):
        status, out, err = run("-kernel", guest("sampled"), "-m", "16", "-append", str(rounds), "-serial", "null", "-monitor", "none", "--stats=json",
                               "--cache=" + self.dir, *args)
        return status, json.loads(err[err.index("{"):])

    @unittest.skipUnless(HAS_KVM, "no right to /dev/kvm, or no such device")
    def test_warm(self):
        rounds = 10000
        status, s = self.stats(rounds, "-accel", "kvm,ring0=on", "--sample=2000")
        while s["samples_guest"] < 100 and rounds < 10 ** 9:  # the host's KVM may be fast
            rounds *= 10
            status, s = self.stats(rounds, "-accel", "kvm,ring0=on", "--sample=2000")
        self.assertGreater(s["samples_guest"], 9 * s["samples_lost"])
        self.assertEqual(s["cache_lookups"], 0)
        built = subprocess.run([CACHE, "build", "--cache", self.dir, "--json"], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
        self.assertGreaterEqual(json.loads(built)["compiled"], 2, built)
        again, s = self.stats(rounds, "--tier=tiered")
        self.assertEqual(again, status)
        self.assertGreaterEqual(s["cache_hits"], 2)
        self.assertGreater(s["cache_insns"], 8)

    def test_refused(self):
        for args, word in [(["--sample=0", "--tier=kvm"], "1 to 10000"), (["--sample=10001", "--tier=kvm"], "1 to 10000"), (["--sample=1k", "--tier=kvm"], "1 to 10000"),
                           (["--sample=100"], "-tier kvm"), (["--sample=100", "--tier=kvm", "--cache=off"], "-cache DIR")]:
            status, out, err = run("-kernel", guest("sampled"), *args)
            self.assertEqual(status, 2, args)
            self.assertIn(word, err)


if __name__ == "__main__":
    main()
