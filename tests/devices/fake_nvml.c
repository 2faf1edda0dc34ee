/* The driver's library as a real shared object: equal cards, as many as FAKE_NVML_CARDS says, the memory in use of each
   from FAKE_NVML_USED_GIB ("1,30,0"), the answer to its start from FAKE_NVML_INIT. The declarations are those of nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

static const unsigned long long GIB = 1ULL << 30;

static unsigned int number(nvmlDevice_t device) { return (unsigned int)((size_t)device - 0x7000); }

static unsigned long long used(nvmlDevice_t device) {
    const char *text = getenv("FAKE_NVML_USED_GIB");
    for (unsigned int skip = number(device); text && skip; skip--) {
        text = strchr(text, ',');
        if (text) text++;
    }
    return text ? strtoull(text, NULL, 10) * GIB : 0;
}

nvmlReturn_t nvmlInit_v2(void) {
    const char *code = getenv("FAKE_NVML_INIT");
    return code ? atoi(code) : 0;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) { return flags ? 2 : nvmlInit_v2(); }
nvmlReturn_t nvmlShutdown(void) { return 0; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    snprintf(version, length, "580.65.06");
    return 0;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = (unsigned int)atoi(getenv("FAKE_NVML_CARDS"));
    return 0;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    *device = (nvmlDevice_t)(size_t)(0x7000 + index);
    return 0;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    snprintf(uuid, length, "GPU-%08x-0000-0000-0000-000000000000", number(device));
    return 0;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    (void)device;
    snprintf(name, length, "Fake GPU");
    return 0;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = number(device) + 1;
    return 0;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    if (memory->version != (sizeof(nvmlMemory_v2_t) | (2u << 24))) return 25;
    memory->total = 40 * GIB;
    memory->reserved = GIB / 2;
    memory->used = used(device);
    memory->free = memory->total - memory->used;
    return 0;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->total = 40 * GIB;
    memory->used = used(device);
    memory->free = memory->total - memory->used;
    return 0;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    *index = number(device);
    return 0;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, unsigned int rates[2]) {
    rates[0] = 7 * number(device);
    rates[1] = 0;
    return 0;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    (void)device, (void)infos;
    *count = 0;
    return 0;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    unsigned int wanted = number(device) == 0 ? 100 : 1;
    if (*count < wanted) {
        *count = wanted;
        return 7;
    }
    *count = wanted;
    for (unsigned int row = 0; row < wanted; row++) {
        infos[row].pid = 5000000 + row;  /* above the largest that Linux gives, so that it names none of this machine */
        infos[row].usedGpuMemory = row * GIB;
        infos[row].gpuInstanceId = infos[row].computeInstanceId = 0xFFFFFFFF;
    }
    return 0;
}
