/* A stand-in for libnvidia-ml.so.1: the functions that the probe asks for, with the signatures of NVIDIA's nvml.h.
 * FAKE_NVML says how it behaves: a number of devices, or init, hang, crash, old (lacks what an old driver lacks). */
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

enum { SUCCESS = 0, NOT_SUPPORTED = 3, DRIVER_MISMATCH = 18 };

static const char *mode(void) {
    const char *value = getenv("FAKE_NVML");
    return value ? value : "0";
}

static unsigned long index_of(void *device) { return (unsigned long)device - 1; }

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    if (strcmp(mode(), "init") == 0) return DRIVER_MISMATCH;
    if (strcmp(mode(), "hang") == 0) sleep(60);
    if (strcmp(mode(), "crash") == 0) *(volatile int *)0 = 1;
    puts("NVML says hello on stdout");
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    return code == DRIVER_MISMATCH ? "Driver/library version mismatch" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *out, unsigned int size) {
    snprintf(out, size, "550.90.07");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = strcmp(mode(), "old") == 0 ? 1 : (unsigned int)atoi(mode());
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(unsigned long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *out, unsigned int size) {
    snprintf(out, size, index_of(device) == 0 ? "NVIDIA GeForce RTX 3090" : "NVIDIA GB10");
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *out, unsigned int size) {
    snprintf(out, size, "GPU-%lu1111111-2222-3333-4444-555555555555", index_of(device));
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *device, pci_t *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->busId, sizeof out->busId, "00000000:%02lX:00.0", 10 + index_of(device));
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *out) {
    if (index_of(device) == 1) return NOT_SUPPORTED; /* as on GB10, which has no memory of its own */
    out->total = 25769803776ULL;
    out->free = 24000000000ULL;
    out->used = out->total - out->free;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    *major = index_of(device) == 0 ? 8 : 12;
    *minor = index_of(device) == 0 ? 6 : 1;
    return SUCCESS;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned int *mhz) {
    if (index_of(device) == 1 || type != 2) return NOT_SUPPORTED;
    *mhz = 9751;
    return SUCCESS;
}

int nvmlDeviceGetMemoryBusWidth(void *device, unsigned int *bits) {
    if (index_of(device) == 1) return NOT_SUPPORTED;
    *bits = 384;
    return SUCCESS;
}
#endif
