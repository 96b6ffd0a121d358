"""tierce-cache: what it finds agrees with objdump, what it compiles is kept, listed, shown, verified, moved; jobs, interruption, and files that lie."""
import json, os, re, shutil, signal, subprocess, tempfile, time, unittest
import lib

CACHE = os.environ.get("TIERCE_CACHE_PROGRAM", "")
SANITIZED = os.environ.get("TIERCE_SANITIZE") in ("address", "thread")
C = """
extern int (*volatile pointer)(int);
static int table(int n, int x) { switch (n) { case 0: pointer = 0; return x + 1; case 1: return x * 3; case 2: pointer(x); return x ^ 5; case 3: return x - 7;
  case 4: return pointer(x << 2); case 5: return x / 3; case 6: pointer(9); return x % 9; default: return n; } }
static int twice(int x) { int s = 0; for (int i = 0; i < x; i++) for (int k = 0; k < i; k++) s += table(i % 7, k); return s; }
int (*volatile pointer)(int) = twice;
int sum(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s += p[i] * i; return s; }
unsigned hash(const char *p) { unsigned h = 5381; while (*p) h = h * 33 + (unsigned char)*p++; return h; }
void reverse(char *p, int n) { for (int i = 0; i < n / 2; i++) { char c = p[i]; p[i] = p[n - 1 - i]; p[n - 1 - i] = c; } }
int digits(unsigned n) { int k = 0; do k++; while (n /= 10); return k; }
__attribute__((noinline)) int other(int x) { return pointer(x) + 1; }
__attribute__((constructor)) static void first(void) { pointer = twice; }
void _start(void) { volatile int x = other(9); (void)x; for (;;) __asm__ volatile("hlt"); }
"""


def cache(*args, timeout=lib.SECONDS * 3, text=True, **more):
    r = subprocess.run([CACHE, *args], capture_output=True, text=text, timeout=timeout, **more)
    return r.returncode, r.stdout, r.stderr


def boundaries(path, *more):
    """Where objdump sees instructions begin, and their texts."""
    out = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-w", *more, path], capture_output=True, text=True, check=True).stdout
    return {int(m.group(1), 16): m.group(2) for m in re.finditer(r"^ *([0-9a-f]+):\t(.*)$", out, re.M)}


@unittest.skipUnless(os.environ.get("TIERCE_LLVM", "ON") == "ON", "built without LLVM")
class CacheTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.store = self.path("store")

    def path(self, name):
        return os.path.join(self.dir, name)

    def program(self, name="program", *flags):
        source = self.path("program.c")
        with open(source, "w") as f:
            f.write(C)
        subprocess.run(["gcc", "-nostdlib", "-O2", "-fno-stack-protector", *flags, source, "-o", self.path(name)], check=True)
        return self.path(name)

    def ok(self, *args, **more):
        status, out, err = cache(*args, **more)
        self.assertEqual(status, 0, out + err)
        return out

    def json(self, *args, **more):
        return json.loads(self.ok(*args, "--json", **more))

    def fails(self, status, pattern, *args):
        got, out, err = cache(*args)
        self.assertEqual(got, status, out + err)
        self.assertRegex(err, pattern)
        self.assertEqual(err.count("\n"), 1, err)

    def build(self, *more):
        return self.json("build", "--cache", self.store, "--most", "4", "--quiet", *more, self.program())

    # --- Discovery
    def blocks(self, path, *more):
        out = self.ok("build", "--list-blocks", *more, path)
        return [(int(pc, 16), int(size), int(insns)) for _, pc, size, insns, _ in (line.split() for line in out.splitlines())]

    def compare(self, path, *more):
        """Share of blocks that objdump cuts differently."""
        known, wrong, blocks = boundaries(path), 0, self.blocks(path, *more)
        for pc, size, insns in blocks:
            inside = [a for a in range(pc, pc + size) if a in known and not known[a].startswith("(bad)")]
            wrong += not (inside and inside[0] == pc and len(inside) == insns)
        return wrong, len(blocks)

    def test_discovery_agrees_with_objdump(self):
        for flags in (("-static", "-fno-pie", "-no-pie"), ("-static-pie", "-fPIE"), ("-shared", "-fPIC"), ("-m32", "-static", "-fno-pie", "-no-pie"), ("-m32", "-shared", "-fPIC")):
            wrong, count = self.compare(self.program("p", *flags))
            self.assertEqual(wrong, 0, flags)
            self.assertGreater(count, 12, flags)

    def test_discovery_of_guests(self):
        for name in ("talk", "tick", "gdb"):
            wrong, count = self.compare(lib.guest(name), "--mode", "kernel32")
            self.assertGreater(count, 1)
            self.assertLessEqual(wrong, 2, name)  # they keep addresses that are no functions', and are taken for such: the Multiboot header's, for one

    @unittest.skipIf(SANITIZED, "takes long")
    def test_discovery_of_debian(self):
        libc = "/lib/x86_64-linux-gnu/libc.so.6"
        for path, least in ((libc, 0.75), ("/bin/busybox", 0.8), ("/bin/bash", 0.85)):
            wrong, count = self.compare(path)
            self.assertLessEqual(wrong, count // 500, path)  # objdump takes data between functions for code, and so stumbles now and then
            f = self.json("build", "--dry-run", path)["files"][0]
            self.assertGreater(f["found_bytes"], least * f["code_bytes"], f)

    def test_jump_table_and_stripped(self):
        path = self.program()
        f = self.json("build", "--dry-run", path)["files"][0]
        self.assertGreaterEqual(f["jump_tables"], 1)
        subprocess.run(["strip", path], check=True)
        self.assertEqual(self.json("build", "--dry-run", path)["files"][0]["found_bytes"], f["found_bytes"])

    def test_initrd(self):
        root = self.path("root")
        os.makedirs(root + "/bin")
        shutil.copy(self.program(), root + "/bin/a")
        shutil.copy(self.program("d", "-shared", "-fPIC"), root + "/bin/d.so")
        with open(root + "/text", "w") as f:
            f.write("no program\n")
        subprocess.run("find . | cpio -o -H newc --quiet > ../plain", shell=True, cwd=root, check=True)
        plain = lib.content(self.path("plain"))
        for name, command in (("gzip", "gzip -n"), ("xz", "xz --check=crc32"), ("zstd", "zstd -q"), ("lz4", "lz4 -lq"), ("none", "cat")):
            packed = subprocess.run(command.split(), input=plain, capture_output=True, check=True).stdout
            with open(self.path(name), "wb") as f:  # behind an early archive, as with microcode
                f.write(plain + b"\0" * 512 + packed)
            got = self.json("build", "--dry-run", "--initrd", self.path(name))
            self.assertEqual(len(got["files"]), 4, name)
            self.assertEqual(got["other_files"], 2)
            self.assertTrue(all(f["blocks"] for f in got["files"]), got)

    @unittest.skipIf(SANITIZED, "takes long")
    def test_kernel(self):
        kernel = lib.debian()[0]
        got = self.json("build", "--dry-run", "--least", "4096", kernel)
        stub, inside = got["files"]
        self.assertGreater(stub["blocks"], 500)
        self.assertGreater(inside["found_bytes"], 0.9 * inside["code_bytes"])
        self.assertGreater(inside["patched"], 50000)

    # --- Building
    def test_build_goes_on_and_is_kept(self):
        first, second = self.build(), self.build()
        self.assertEqual((first["compiled"], first["refused"], first["left"]), (4, 0, 0))
        self.assertEqual((second["compiled"], second["present"]), (0, 4))
        self.assertGreater(first["guest_mb_per_core_minute"], 0)
        self.assertEqual(len(self.json("list", "--cache", self.store)), 4)

    def test_two_builds_give_the_same_bytes(self):
        program = self.program()
        for store, threads in (("a", "1"), ("b", "2")):
            self.ok("build", "--cache", self.path(store), "--quiet", "--most", "3", "--threads", threads, program)
            self.ok("export", "--cache", self.path(store), self.path(store + ".archive"))
        self.assertEqual(lib.content(self.path("a.archive")), lib.content(self.path("b.archive")))

    def jobs(self, store):
        return self.ok("build", "--cache", self.path(store), "--jobs", "3", "--list-jobs", "--least", "8", self.program())

    def keys(self, store):
        return {o["key"] for o in self.json("list", "--cache", self.path(store))}

    def test_jobs(self):
        self.ok("build", "--cache", self.path("whole"), "--quiet", "--least", "8", self.program())
        lines = self.jobs("make").splitlines()
        self.assertEqual(len(lines), 3)
        with open(self.path("Makefile"), "w") as f:
            f.write("all: 0 1 2\n" + "".join("%d:\n\t@%s\n" % job for job in enumerate(lines)))
        subprocess.run(["make", "-s", "-j2", "-f", self.path("Makefile")], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["parallel", "-j2"], input=self.jobs("parallel"), text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        whole = self.keys("whole")
        self.assertGreater(len(whole), 1)
        self.assertEqual(self.keys("make"), whole)
        self.assertEqual(self.keys("parallel"), whole)

    def test_interrupted(self):
        p = subprocess.Popen([CACHE, "build", "--cache", self.store, "--threads", "1", "/bin/busybox"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 1, out + err)
        self.assertRegex(err, r"stopped with \d+ regions left; what is done is kept, and the same command goes on from here|interrupted")
        self.assertEqual(self.json("verify", "--cache", self.store, "--sample", "2")["damaged"], 0)

    def test_progress_on_a_terminal(self):
        with lib.Process("build", "--cache", self.store, "--seconds", "2", "/bin/busybox", terminal=True, program=CACHE) as p:
            p.expect(r"\[[#.]{30}\] \d+/\d+ regions, [\d.]+ MB/min, \d+:\d\d left", timeout=60)
            p.expect("the 2 seconds are up", timeout=60)

    @unittest.skipIf(SANITIZED, "takes long")
    def test_profiles(self):
        kernel, initrd = lib.debian()
        status, out, err = lib.run("-m", "256", "-kernel", kernel, "-initrd", initrd, "-append", 'console=ttyS0 quiet RUN="poweroff -f"', "-nographic", "--cache=" + self.store, timeout=120)
        self.assertIn("tierce guest ready", out, err)
        before = len(self.json("list", "--cache", self.store))
        planned = self.json("build", "--cache", self.store, "--profiles", "--dry-run", "--runs", "1000")["to_compile"]
        self.assertGreater(planned, 10)
        got = self.json("build", "--cache", self.store, "--runs", "1000", "--most", "6", "--quiet")
        self.assertEqual(got["left"], 0)
        self.assertEqual(got["compiled"] + got["present"] + got["refused"], 6)
        self.assertLessEqual(got["refused"], 1)
        self.assertEqual(len(self.json("list", "--cache", self.store)), before + got["compiled"])

    # --- Template code ahead of time
    def templates(self, store):
        (name,) = [f for f in os.listdir(os.path.join(store, "files")) if f.startswith("templates-")]
        with open(os.path.join(store, "files", name), "rb") as f:
            return name, f.read()[80:]  # behind the store's head, which has the time

    def test_templates(self):
        got = self.build()
        self.assertGreater(got["templates"], 10)
        self.assertLess(got["templates"], got["files"][0]["blocks"] + 1)
        name, first = self.templates(self.store)
        self.assertTrue(name.endswith("-n-files"))
        self.assertEqual(self.build()["templates"], got["templates"])
        again = self.path("again")
        self.ok("build", "--cache", again, "--most", "4", "--quiet", self.path("program"))
        self.assertEqual(self.templates(again), (name, first))
        with open(self.path("other.c"), "w") as f:
            f.write("int other(int a) { int s = 0; while (a) s += a--; return s; } void _start(void) { other(3); for (;;); }")
        subprocess.run(["gcc", "-nostdlib", "-O1", self.path("other.c"), "-o", self.path("other")], check=True)
        both = self.json("build", "--cache", again, "--most", "1", "--quiet", self.path("other"))
        self.assertGreater(both["templates"], got["templates"])  # those that were there stay

    @unittest.skipIf(SANITIZED, "takes long")
    def test_a_kernel_that_never_ran(self):
        kernel, initrd = lib.debian()
        got = self.json("build", "--cache", self.store, "--most", "1", "--quiet", kernel, "--initrd", initrd, timeout=120)
        self.assertGreater(got["templates"], 100000)
        status, out, err = lib.run("-m", "256", "-kernel", kernel, "-initrd", initrd, "-append", 'console=ttyS0 quiet RUN="poweroff -f"', "-nographic",
                                   "--cache=" + self.path("own"), "--cache-layer=" + self.store, "--stats=json", timeout=120)
        self.assertIn("tierce guest ready", out, err)
        blocks, hit = (int(re.search(r'"%s": *(\d+)' % n, out + err).group(1)) for n in ("blocks", "templates_hit"))
        self.assertGreater(hit, blocks * 0.7, out[-2000:])

    # --- What is there
    def test_show(self):
        self.build()
        o = self.json("list", "--cache", self.store)[0]
        text = self.ok("show", "--cache", self.store, o["key"][:20])
        for pattern in ("guest block 0 at", "host code", "mode .*user", r"jmp|ret"):
            self.assertRegex(text, pattern)
        self.assertEqual(self.ok("show", "--cache", self.store, o["key"][32:48]), text)
        j = self.json("show", "--cache", self.store, o["key"])
        self.assertEqual(len(j["blocks"]), o["blocks"])
        self.assertTrue(j["host"])
        elf = cache("show", "--cache", self.store, "--object", o["key"], text=False)[1]
        self.assertEqual(elf[:4], b"\177ELF")
        self.fails(1, "ambiguous", "show", "--cache", self.store, "")
        self.fails(1, "no object", "show", "--cache", self.store, "0" * 64)
        self.fails(2, "no key", "show", "--cache", self.store, "xyz")

    def test_verify(self):
        self.build()
        v = self.json("verify", "--cache", self.store, "--sample", "all")
        self.assertEqual((v["objects"], v["checked"], v["same"], v["wrong"]), (4, 4, 4, []))
        v = self.json("verify", "--cache", self.store, "--cpu", "x86-64-v2,+aes")
        self.assertEqual((v["same"], v["foreign"]), (0, 4))  # another guest CPU is another translator

    def test_stats(self):
        self.build()
        s = self.json("stats", "--cache", self.store)
        self.assertEqual((s["objects"], s["damaged"], s["profiles"], s["template_files"]), (4, 0, 0, 1))
        self.assertEqual(s["modes"], {"0x23ff309b": 4})
        self.assertRegex(self.ok("stats", "--cache", self.store), "objects +4")

    def test_moving(self):
        self.build()
        archive = self.path("archive")
        self.assertEqual(self.json("export", "--cache", self.store, archive)["objects"], 4)
        self.assertEqual(self.json("import", "--cache", self.path("b"), archive), {"objects": 4, "bytes": os.path.getsize(archive) - 8 - 5 * 48, "present": 0, "damaged": 0})
        self.assertEqual(self.json("import", "--cache", self.path("b"), archive)["present"], 4)
        self.assertEqual(self.json("merge", "--cache", self.path("c"), self.path("b"), self.store)["objects"], 4)
        for store in ("b", "c"):
            self.assertEqual(self.json("verify", "--cache", self.path(store), "--sample", "all")["same"], 4)
        os.makedirs(self.path("empty"), 0o700)
        self.assertEqual(len(self.json("list", "--cache", self.path("empty"), "--cache-layer", self.store, "--layers")), 4)

    def test_prune_and_gc(self):
        self.build()
        got = self.json("prune", "--cache", self.store, "--size", "0")
        self.assertEqual((got["removed"], got["objects"], got["files"]), (5, 0, 0))  # a file of templates
        self.json("gc", "--cache", self.store)
        self.assertEqual(self.json("list", "--cache", self.store), [])

    def test_hostile_archives(self):
        self.build()
        archive, bad = self.path("archive"), self.path("bad")
        self.ok("export", "--cache", self.store, archive)
        whole = lib.content(archive)
        for cut in (0, 7, 8, 30, 60, 200, len(whole) - 1):
            with open(bad, "wb") as f:
                f.write(whole[:cut])
            self.fails(1, "ends early|no archive", "import", "--cache", self.path("c%d" % cut), bad)
        for at in range(8, len(whole), len(whole) // 40 + 1):
            with open(bad, "wb") as f:
                f.write(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1:])
            status = cache("import", "--cache", self.path("flip"), bad)[0]
            self.assertEqual(status, 1, at)
        v = self.json("verify", "--cache", self.path("flip"), "--sample", "all")
        self.assertEqual(v["wrong"], [])

    # --- What is refused
    def test_usage(self):
        self.assertRegex(self.ok("--help"), r"build[\s\S]*list[\s\S]*gc")
        for name in re.findall(r"^  (\w+) ", self.ok("--help"), re.M):
            self.assertRegex(self.ok(name, "--help"), "usage: tierce-cache ")
        for pattern, *args in (("no command",), ("unknown command 'x'", "x"), ("unknown option '--x'", "build", "--x"), ("accepted are kernel", "build", "--mode", "x", "f"),
                               ("--job needs --jobs", "build", "--job", "1", "f"), ("from 0 to 1", "build", "--jobs", "2", "--job", "2", "f"),
                               ("accepted is a number of bytes", "prune", "--size", "1X"), ("or all", "verify", "--cache", self.store, "--sample", "0"),
                               ("show needs a key", "show"), ("merge needs", "merge"), ("--threads '0'", "build", "--threads", "0", "f"), ("needs files", "build", "--list-blocks"), ("without files", "build", "--profiles", "f")):
            if pattern == "or all":
                self.build()
            self.fails(2, re.escape(pattern), *args)

    def test_bad_files(self):
        text = self.path("text")
        with open(text, "w") as f:
            f.write("no program\n" * 100)
        self.fails(1, "is no ELF file", "build", "--dry-run", text)
        self.fails(1, "No such file", "build", "--dry-run", self.path("none"))
        self.fails(1, "has no profiles", "build", "--cache", self.store)
        self.fails(1, "no cpio archive", "build", "--dry-run", "--initrd", text)
        path = self.program()
        whole = lib.content(path)
        for cut in range(1, len(whole), len(whole) // 30):
            with open(text, "wb") as f:
                f.write(whole[:cut])
            self.assertIn(cache("build", "--dry-run", text)[0], (0, 1), cut)

    def test_directory_of_others(self):
        os.makedirs(self.store, 0o777)
        os.chmod(self.store, 0o777)
        self.fails(1, "writable|others", "list", "--cache", self.store)


if __name__ == "__main__":
    lib.main()
