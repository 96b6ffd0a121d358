/* kvm.h - the host's KVM as a way to execute: the machine's own vCPU struct, memory map and devices, run by the host's CPU.
 * What the host's KVM lacks is found by asking and trying, and each lack has one warning on standard error; nothing is assumed.
 * Threads: as struct accel_ops says. */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include "runtime/runtime.h"

extern const struct accel_ops kvm_accel;
/* False: error has one line that says why this host has no KVM for us, and what to do. */
bool kvm_is_there(char *error, size_t size);

#endif
