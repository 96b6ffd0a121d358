/* Each reason for which KVM_RUN comes back, from pages as KVM fills them: what the machine is asked, what the loop is told, and that pages
 * with nonsense in them are refused.  And the slots that a memory map gives.  No KVM is needed. */
#include "kvm/internal.h"
#include <stdlib.h>
#include <string.h>

static unsigned passed, failures;
static void check_at(int line, const char *what, bool good, const char *text)
{
    passed += good;
    failures += !good;
    if (!good)
        printf("exit_test.c:%d: %s: '%s'\n", line, what, text);
}
#define CHECK(what, good) check_at(__LINE__, what, good, text)

enum { PAGE_SIZE = 3 * 4096 };
static union { struct kvm_run run; char bytes[PAGE_SIZE]; } page;
static char asked[256], text[640];

static void port(void *ctx, bool write, uint16_t number, unsigned size, unsigned count, void *data)
{
    (void)ctx;
    snprintf(asked, sizeof asked, "%s %x %ux%u", write ? "out" : "in", number, size, count);
    for (unsigned i = 0; i < size * count && !write; i++)
        ((uint8_t *)data)[i] = (uint8_t)(0x10 + i);
    if (write && size * count < 64)
        snprintf(asked + strlen(asked), 100, " %.*s", (int)(size * count), (const char *)data);
}
static void device(void *ctx, bool write, uint64_t physical, unsigned size, void *data)
{
    (void)ctx;
    snprintf(asked, sizeof asked, "%s %llx %u", write ? "write" : "read", (unsigned long long)physical, size);
    if (!write)
        memset(data, 0x5a, size);
}
static bool msr(void *ctx, bool write, uint32_t number, uint64_t *value)
{
    (void)ctx;
    snprintf(asked, sizeof asked, "%s %x", write ? "wrmsr" : "rdmsr", number);
    if (!write)
        *value = 77;
    return number != 0x999;
}

static enum kvm_outcome handle(unsigned reason)
{
    static const struct kvm_exit_bus bus = {NULL, port, device, msr};
    page.run.exit_reason = reason;
    *asked = 0;
    return kvm_exit_handle(&page.run, PAGE_SIZE, &bus, text, sizeof text);
}
static bool asked_is(const char *what) { return !strcmp(asked, what); }
static void clear(void) { memset(&page, 0, sizeof page); }

static void io_test(void)
{
    clear();
    page.run.io.direction = KVM_EXIT_IO_OUT;
    page.run.io.size = 1;
    page.run.io.port = 0xe9;
    page.run.io.count = 5;
    page.run.io.data_offset = 4096;
    memcpy(page.bytes + 4096, "hello", 5);
    CHECK("a string goes out", handle(KVM_EXIT_IO) == OUTCOME_UNFINISHED && asked_is("out e9 1x5 hello"));
    page.run.io.direction = KVM_EXIT_IO_IN;
    page.run.io.size = 4;
    page.run.io.count = 2;
    CHECK("two words come in", handle(KVM_EXIT_IO) == OUTCOME_UNFINISHED && asked_is("in e9 4x2") && page.bytes[4096 + 7] == 0x17);
    page.run.io.size = 3;
    CHECK("three bytes are no size", handle(KVM_EXIT_IO) == OUTCOME_FAILED && !*asked);
    page.run.io.size = 4;
    page.run.io.count = 4096;
    CHECK("data beyond the page", handle(KVM_EXIT_IO) == OUTCOME_FAILED && !*asked);
    page.run.io.count = 1;
    page.run.io.data_offset = ~0ull;
    CHECK("an offset far beyond it", handle(KVM_EXIT_IO) == OUTCOME_FAILED && !*asked && strstr(text, "KVM_EXIT_IO"));
}

static void ring_test(void)
{
    static const struct kvm_exit_bus bus = {NULL, port, device, msr};
    static union { struct kvm_coalesced_mmio_ring ring; char bytes[4096]; } r;
    const unsigned entries = (sizeof r - sizeof r.ring) / sizeof *r.ring.coalesced_mmio;
    r.ring.first = entries - 1;
    r.ring.last = 1;
    r.ring.coalesced_mmio[entries - 1] = (struct kvm_coalesced_mmio){.phys_addr = 0x80, .len = 1, .pio = 1, .data = "a"};
    r.ring.coalesced_mmio[0] = (struct kvm_coalesced_mmio){.phys_addr = 0xed, .len = 2, .pio = 1, .data = "bc"};
    *asked = 0;
    kvm_coalesced_drain(&r.ring, &bus);
    CHECK("a ring is emptied, over its end", asked_is("out ed 2x1 bc") && r.ring.first == 1 && r.ring.last == 1);
    *asked = 0;
    kvm_coalesced_drain(&r.ring, &bus);
    CHECK("and is empty", !*asked);
    r.ring.last = 4;
    r.ring.coalesced_mmio[1] = (struct kvm_coalesced_mmio){.phys_addr = 0x10080, .len = 1, .pio = 1};
    r.ring.coalesced_mmio[2] = (struct kvm_coalesced_mmio){.phys_addr = 0x80, .len = 9, .pio = 1};
    r.ring.coalesced_mmio[3] = (struct kvm_coalesced_mmio){.phys_addr = 0xa0000, .len = 1};
    kvm_coalesced_drain(&r.ring, &bus);
    CHECK("what was not asked for is passed over", !*asked && r.ring.first == 4);
    r.ring.first = r.ring.last = 0xffffff00;
    r.ring.last++;
    kvm_coalesced_drain(&r.ring, &bus);
    r.ring.first = 0;
    r.ring.last = 0xffffffff;
    kvm_coalesced_drain(&r.ring, &bus);
    CHECK("nonsense ends it", r.ring.first < entries);
}

static void mmio_test(void)
{
    clear();
    page.run.mmio.phys_addr = 0xfee00020;
    page.run.mmio.len = 4;
    CHECK("a read", handle(KVM_EXIT_MMIO) == OUTCOME_UNFINISHED && asked_is("read fee00020 4") && page.run.mmio.data[3] == 0x5a && !page.run.mmio.data[4]);
    page.run.mmio.is_write = 1;
    page.run.mmio.len = 8;
    CHECK("a write", handle(KVM_EXIT_MMIO) == OUTCOME_UNFINISHED && asked_is("write fee00020 8"));
    page.run.mmio.len = 9;
    CHECK("nine bytes", handle(KVM_EXIT_MMIO) == OUTCOME_FAILED && !*asked);
    page.run.mmio.len = 0;
    CHECK("no bytes", handle(KVM_EXIT_MMIO) == OUTCOME_FAILED && !*asked);
}

static void msr_test(void)
{
    clear();
    page.run.msr.index = 0x8b;
    page.run.msr.error = 1;
    CHECK("RDMSR", handle(KVM_EXIT_X86_RDMSR) == OUTCOME_UNFINISHED && asked_is("rdmsr 8b") && page.run.msr.data == 77 && !page.run.msr.error);
    page.run.msr.index = 0x999;
    CHECK("WRMSR that is #GP", handle(KVM_EXIT_X86_WRMSR) == OUTCOME_UNFINISHED && asked_is("wrmsr 999") && page.run.msr.error == 1);
}

static void plain_test(void)
{
    static const struct { unsigned reason; enum kvm_outcome outcome; } rows[] = {
        {KVM_EXIT_HLT, OUTCOME_HALTED}, {KVM_EXIT_SHUTDOWN, OUTCOME_SHUTDOWN}, {KVM_EXIT_DEBUG, OUTCOME_BREAK}, {KVM_EXIT_INTR, OUTCOME_DONE},
        {KVM_EXIT_IRQ_WINDOW_OPEN, OUTCOME_DONE}, {KVM_EXIT_NMI, OUTCOME_DONE}, {KVM_EXIT_SET_TPR, OUTCOME_DONE}, {KVM_EXIT_HYPERCALL, OUTCOME_UNFINISHED},
        {KVM_EXIT_UNKNOWN, OUTCOME_FAILED}, {KVM_EXIT_FAIL_ENTRY, OUTCOME_FAILED}, {KVM_EXIT_EXCEPTION, OUTCOME_FAILED}, {KVM_EXIT_TPR_ACCESS, OUTCOME_FAILED},
        {KVM_EXIT_IOAPIC_EOI, OUTCOME_FAILED}, {KVM_EXIT_XEN, OUTCOME_FAILED}, {KVM_EXIT_HYPERV, OUTCOME_FAILED}, {KVM_EXIT_DIRTY_RING_FULL, OUTCOME_FAILED}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        clear();
        bool right = handle(rows[i].reason) == rows[i].outcome;
        const char *name = kvm_exit_name(rows[i].reason);
        CHECK(name, right && name && (rows[i].outcome != OUTCOME_FAILED || strstr(text, name)));
    }
    clear();
    CHECK("a reason of the future", handle(4711) == OUTCOME_FAILED && strstr(text, "4711"));
    CHECK("the largest", handle(~0u) == OUTCOME_FAILED && strstr(text, "4294967295"));
    page.run.fail_entry.hardware_entry_failure_reason = 0x80000021;
    CHECK("the hardware's reason is told", handle(KVM_EXIT_FAIL_ENTRY) == OUTCOME_FAILED && strstr(text, "0x80000021"));
}

static void internal_error_test(void)
{
    clear();
    page.run.internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
    page.run.internal.ndata = 2;
    page.run.internal.data[0] = 0xabc;
    page.run.internal.data[1] = 0xdef;
    CHECK("its data are told", handle(KVM_EXIT_INTERNAL_ERROR) == OUTCOME_FAILED && strstr(text, "suberror 3") && strstr(text, "abc def"));
    page.run.internal.ndata = ~0u;
    CHECK("more data than there is room for", handle(KVM_EXIT_INTERNAL_ERROR) == OUTCOME_FAILED && strlen(text) < sizeof text - 1);
    page.run.internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    CHECK("what is not emulated", handle(KVM_EXIT_INTERNAL_ERROR) == OUTCOME_NOT_EMULATED);
    clear();
    page.run.system_event.type = KVM_SYSTEM_EVENT_RESET;
    CHECK("a reset", handle(KVM_EXIT_SYSTEM_EVENT) == OUTCOME_SHUTDOWN);
    page.run.system_event.type = KVM_SYSTEM_EVENT_CRASH;
    CHECK("a crash", handle(KVM_EXIT_SYSTEM_EVENT) == OUTCOME_FAILED && strstr(text, "crashed"));
    page.run.system_event.type = 99;
    CHECK("an event that is not known", handle(KVM_EXIT_SYSTEM_EVENT) == OUTCOME_FAILED && strstr(text, "99"));
}

/* Whatever a page holds: no crash, and nothing read or written outside of it (the sanitizers see that). */
static void noise_test(void)
{
    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        for (unsigned n = 0; n < sizeof(struct kvm_run) / 4; n++)
            ((uint32_t *)(void *)page.bytes)[n] = rand() % 3 ? (uint32_t)rand() % 64 : (uint32_t)rand() * 2654435761u;
        *text = 'x';
        enum kvm_outcome o = handle(page.run.exit_reason);
        if (o == OUTCOME_FAILED && (!*text || *text == 'x'))
            CHECK("a failure without words", false);
    }
    *text = 0;
    CHECK("noise", true);
}

static void slots_test(void)
{
    static uint8_t ram[64 * 4096];
    struct address_space s = {0};
    struct kvm_slot slots[4];
    struct device *fake = (struct device *)(void *)ram;
    *text = 0;
    space_add_memory(&s, REGION_RAM, 0x100000, 16 * 4096, ram, "high");
    space_add_memory(&s, REGION_RAM, 0, 16 * 4096, ram, "low");
    space_add_device(&s, 0xfee00000, 4096, fake, 0, "device");
    CHECK("two pieces", kvm_slots_of(&s, slots, 4) == 2 && slots[0].base == 0 && slots[1].base == 0x100000 && slots[1].size == 16 * 4096 && slots[1].host == ram);
    space_add_device(&s, 0x102010, 16, fake, 0, "over RAM");
    CHECK("a device's page has no slot", kvm_slots_of(&s, slots, 4) == 3 && slots[1].size == 2 * 4096 && slots[2].base == 0x103000 && slots[2].host == ram + 3 * 4096);
    space_add_memory(&s, REGION_ROM, 0x8000, 4096, ram + 40 * 4096, "ROM");
    CHECK("ROM over RAM", kvm_slots_of(&s, slots, 4) == 5 && slots[1].read_only && slots[1].base == 0x8000 && !slots[0].read_only);
    space_remove(&s, 0x102010, fake);
    CHECK("what was covered is one piece again", kvm_slots_of(&s, slots, 4) == 4 && slots[3].size == 16 * 4096);
    space_free(&s);
    CHECK("an empty map", kvm_slots_of(&s, slots, 4) == 0);
}

int main(void)
{
    io_test();
    ring_test();
    mmio_test();
    msr_test();
    plain_test();
    internal_error_test();
    noise_test();
    slots_test();
    printf("exit_test: %u passed, %u failed\n", passed, failures);
    return failures != 0;
}
