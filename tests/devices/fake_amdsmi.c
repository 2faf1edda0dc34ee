/* AMD's library as a real shared object: two cards on one socket each. The declarations are those of amdsmi.h. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef void *handle_t;
typedef union {
    struct { uint64_t function : 3, device : 5, bus : 8, domain : 48; };
    uint64_t as_uint;
} amdsmi_bdf_t;
typedef struct { uint32_t gfx_activity, umc_activity, mm_activity, reserved[13]; } amdsmi_engine_usage_t;
typedef struct { char market_name[256]; uint32_t vendor_id; char vendor_name[256]; uint64_t rest[100]; } amdsmi_asic_info_t;

static int number(handle_t handle) { return (int)((uintptr_t)handle & 0xF); }

int amdsmi_init(uint64_t flags) { return flags == 2 ? 0 : 1; }
int amdsmi_shut_down(void) { return 0; }

int amdsmi_get_socket_handles(uint32_t *count, handle_t *sockets) {
    if (sockets)
        for (uint32_t place = 0; place < *count; place++) sockets[place] = (handle_t)(uintptr_t)(0x7f0000000010 + place);
    *count = 2;
    return 0;
}

int amdsmi_get_processor_handles(handle_t socket, uint32_t *count, handle_t *processors) {
    if (processors) processors[0] = (handle_t)(uintptr_t)(0x7f0000000020 + number(socket));
    *count = 1;
    return 0;
}

int amdsmi_get_gpu_device_bdf(handle_t processor, amdsmi_bdf_t *bdf) {
    bdf->as_uint = 0;
    bdf->domain = 1;
    bdf->bus = 0xC1 + number(processor);
    bdf->device = 2;
    return 0;
}

int amdsmi_get_gpu_memory_total(handle_t processor, int type, uint64_t *bytes) {
    *bytes = (uint64_t)192 << 30;
    return type ? 2 : 0;
}

int amdsmi_get_gpu_memory_usage(handle_t processor, int type, uint64_t *bytes) {
    *bytes = (uint64_t)(number(processor) ? 5 : 100) << 30;
    return type ? 2 : 0;
}

int amdsmi_get_gpu_asic_info(handle_t processor, amdsmi_asic_info_t *info) {
    memset(info, 0xFF, sizeof *info);
    snprintf(info->market_name, sizeof info->market_name, "AMD Instinct MI300X #%d", number(processor));
    return 0;
}

int amdsmi_get_gpu_activity(handle_t processor, amdsmi_engine_usage_t *usage) {
    memset(usage, 0xFF, sizeof *usage);
    usage->gfx_activity = number(processor) ? 0xFFFFFFFF : 37;
    return 0;
}
