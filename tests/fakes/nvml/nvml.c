/* A stand-in for libnvidia-ml.so.1: the functions that the probe asks for, with the signatures of NVIDIA's nvml.h.
 * FAKE_NVML says how it behaves: a number of devices (an RTX 3090, then GB10s), or
 *   init, module, permission   does not start: driver and library differ, no module, no permission;
 *   unheard-of                 an error that is in no header
 *   hang, hang-after-first     stops answering at once, or at the second card
 *   crash                      a segmentation fault
 *   old                        lacks what an old driver lacks (compiled with OLD_DRIVER)
 *   mig, mig-empty, mig-secret an A100 with MIG on: three slices, none, three while the card's own memory is a secret
 *   lost, lost-memory          two cards of which the first can't be opened; one that doesn't tell its memory
 *   zero                       a GPU with "0 bytes" of memory and no PCI bus, as on Orin
 *   no-cuda                    no libcuda.so.1
 *   absurd                     what no driver says: text that is no text, numbers that are no figures */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} pci_t;

enum {
    SUCCESS = 0, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, NOT_LOADED = 9, LIBRARY_NOT_FOUND = 12,
    IS_LOST = 15, DRIVER_MISMATCH = 18, UNHEARD_OF = 4242
};
enum { SLICE = 100, MIB = 1 << 20 };
#define ABSURD "\xff\xfe\x1b[31m\n"

static int is(const char *mode) {
    const char *value = getenv("FAKE_NVML");
    return strcmp(value ? value : "0", mode) == 0;
}

static int mig(void) { return is("mig") || is("mig-empty") || is("mig-secret"); }

/* Handles are numbers, those of slices from SLICE on. */
static unsigned long number(void *device) { return (unsigned long)device - 1; }
static unsigned long gb10(void *device) { return number(device) == 1; }

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    if (is("init")) return DRIVER_MISMATCH;
    if (is("module")) return NOT_LOADED;
    if (is("permission")) return NO_PERMISSION;
    if (is("unheard-of")) return UNHEARD_OF;
    if (is("hang")) sleep(60);
    if (is("crash")) *(volatile int *)0 = 1;
    puts("NVML says hello on stdout");
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) { return code == UNHEARD_OF ? ABSURD : "Unknown Error"; }

int nvmlSystemGetDriverVersion(char *out, unsigned int size) {
    snprintf(out, size, "%s", is("absurd") ? ABSURD : "550.90.07");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    const char *mode = getenv("FAKE_NVML");
    *count = (unsigned int)atoi(mode ? mode : "0");
    if (is("old") || mig() || is("zero") || is("no-cuda") || is("lost-memory")) *count = 1;
    if (is("lost") || is("hang-after-first")) *count = 2;
    if (is("absurd")) *count = 4294967295U;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (is("lost") && index == 0) return IS_LOST;
    if (is("hang-after-first") && index == 1) sleep(60);
    if (is("absurd") && index > 0) return UNHEARD_OF;
    *device = (void *)(unsigned long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *out, unsigned int size) {
    const char *slices[] = {"3g.40gb", "2g.20gb", "2g.20gb"};
    if (number(device) >= SLICE) snprintf(out, size, "NVIDIA A100-SXM4-80GB MIG %s", slices[number(device) - SLICE]);
    else if (is("absurd")) memcpy(memset(out, 'A', size), "\x1b[31mRTX\n", 9); /* and no end */
    else if (mig()) snprintf(out, size, "NVIDIA A100-SXM4-80GB");
    else if (is("zero")) snprintf(out, size, "Orin (nvgpu)");
    else snprintf(out, size, gb10(device) ? "NVIDIA GB10" : "NVIDIA GeForce RTX 3090");
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *out, unsigned int size) {
    const char *rest = "1111111-2222-3333-4444-555555555555";
    if (is("absurd")) snprintf(out, size, "%s", ABSURD);
    else if (number(device) >= SLICE) snprintf(out, size, "MIG-%lu%s", number(device) - SLICE, rest);
    else snprintf(out, size, "GPU-%lu%s", number(device), rest);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *device, pci_t *out) {
    memset(out, 0, sizeof *out);
    if (is("zero")) return SUCCESS;
    out->domain = gb10(device) ? 0xf : 0;
    out->bus = is("absurd") ? 4294967295U : gb10(device) ? 1 : 10;
    out->pciDeviceId = gb10(device) ? 0x2e1210de : mig() ? 0x20b210de : 0x220410de;
    snprintf(out->busId, sizeof out->busId, "%08X:%02X:00.0", out->domain, out->bus);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *out) {
    memset(out, 0, sizeof *out);
    if (is("zero")) return SUCCESS;
    if (gb10(device)) return NOT_SUPPORTED;
    if (is("lost-memory")) return IS_LOST;
    if (is("mig-secret") && number(device) == 0) return NO_PERMISSION;
    out->total = 25769803776ULL;
    out->free = 24000000000ULL;
    if (mig()) {
        out->total = 85197848576ULL; /* 81251 MiB */
        out->free = out->total - 100ULL * MIB;
    }
    if (number(device) >= SLICE) {
        out->total = (number(device) == SLICE ? 40192ULL : 19968ULL) * MIB;
        out->free = out->total - 37ULL * MIB;
    }
    if (is("absurd")) out->total = out->free = ~0ULL;
    out->used = out->total - out->free;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    *major = is("absurd") ? -2147483647 : gb10(device) ? 12 : 8;
    *minor = gb10(device) ? 1 : mig() ? 0 : 6;
    return SUCCESS;
}

#ifndef OLD_DRIVER
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    if (is("no-cuda")) return LIBRARY_NOT_FOUND;
    *version = is("absurd") ? -1 : 12040;
    return SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned int *mhz) {
    if (gb10(device) || type != 2) return NOT_SUPPORTED;
    *mhz = is("absurd") ? 4294967295U : mig() ? 1593 : 9751;
    return SUCCESS;
}

int nvmlDeviceGetMemoryBusWidth(void *device, unsigned int *bits) {
    if (gb10(device)) return NOT_SUPPORTED;
    *bits = is("absurd") ? 4294967295U : mig() ? 5120 : 384;
    return SUCCESS;
}

int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned int *generation) {
    *generation = is("absurd") ? 4294967295U : gb10(device) ? 5 : 4;
    return SUCCESS;
}

int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned int *lanes) {
    *lanes = is("absurd") ? 4294967295U : gb10(device) ? 1 : 16;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) {
    if (gb10(device)) return NOT_SUPPORTED;
    *milliwatts = is("absurd") ? 4294967295U : mig() ? 400000 : 350000;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    (void)device;
    if (!mig() && !is("absurd")) return NOT_SUPPORTED; /* as on cards that can't be cut */
    *current = *pending = 1;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) {
    (void)device;
    *count = is("absurd") ? 4294967295U : 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **slice) {
    (void)device;
    if (is("mig-empty") || is("absurd") || index > 2) return NOT_FOUND;
    *slice = (void *)(unsigned long)(SLICE + index + 1);
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *slice, unsigned int *id) {
    *id = (unsigned int)(number(slice) - SLICE + 1);
    return SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(void *slice, unsigned int *id) {
    (void)slice;
    *id = 0;
    return SUCCESS;
}
#endif
