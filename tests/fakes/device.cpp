// Devices that compute nothing, with as much memory as they are told to have: llama.cpp then does its own arithmetic of
// placement (with no_alloc) on a machine without a GPU. They have the CPU's operations, the padding of CUDA's buffers,
// and no driver.
//
// The structures of ggml-backend-impl.h, which is not installed, are written down here as they are in API version 2
// (ggml 0.25); fake_register() refuses another version's library.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "llama.h"

static const int API_VERSION = 2;
static const size_t DEVICE_ALIGNMENT = 128, HOST_ALIGNMENT = 64;
static const int64_t CUDA_ROW_PADDING = 512;  // MATRIX_ROW_PADDING in ggml-cuda/common.cuh
static const int64_t OFFLOADED_FROM = 32;     // tokens at once, from which weights on the CPU are copied to a device

extern "C" {
typedef ggml_backend_buffer_type_t Type;
typedef ggml_backend_buffer_t Buffer;
typedef ggml_backend_dev_t Device;
typedef ggml_backend_t Backend;

struct ggml_backend_buffer_type_i {
    const char * (*get_name)(Type);
    Buffer (*alloc_buffer)(Type, size_t);
    size_t (*get_alignment)(Type);
    size_t (*get_max_size)(Type);
    size_t (*get_alloc_size)(Type, const ggml_tensor *);
    bool (*is_host)(Type);
};
struct ggml_backend_buffer_type {
    ggml_backend_buffer_type_i iface;
    Device device;
    void * context;
};
struct ggml_backend_buffer_i {
    void (*free_buffer)(Buffer);
    void * (*get_base)(Buffer);
    enum ggml_status (*init_tensor)(Buffer, ggml_tensor *);
    void (*memset_tensor)(Buffer, ggml_tensor *, uint8_t, size_t, size_t);
    void (*set_tensor)(Buffer, ggml_tensor *, const void *, size_t, size_t);
    void (*get_tensor)(Buffer, const ggml_tensor *, void *, size_t, size_t);
    void (*set_tensor_2d)(Buffer, ggml_tensor *, const void *, size_t, size_t, size_t, size_t, size_t);
    void (*get_tensor_2d)(Buffer, const ggml_tensor *, void *, size_t, size_t, size_t, size_t, size_t);
    bool (*cpy_tensor)(Buffer, const ggml_tensor *, ggml_tensor *);
    void (*clear)(Buffer, uint8_t);
    void (*reset)(Buffer);
};
struct ggml_backend_buffer {
    ggml_backend_buffer_i iface;
    Type buft;
    void * context;
    size_t size;
    enum ggml_backend_buffer_usage usage;
};
Buffer ggml_backend_buffer_init(Type, ggml_backend_buffer_i, void *, size_t);

struct ggml_backend_i {
    const char * (*get_name)(Backend);
    void (*free)(Backend);
    void (*set_tensor_async)(Backend, ggml_tensor *, const void *, size_t, size_t);
    void (*get_tensor_async)(Backend, const ggml_tensor *, void *, size_t, size_t);
    void (*set_tensor_2d_async)(Backend, ggml_tensor *, const void *, size_t, size_t, size_t, size_t, size_t);
    void (*get_tensor_2d_async)(Backend, const ggml_tensor *, void *, size_t, size_t, size_t, size_t, size_t);
    bool (*cpy_tensor_async)(Backend, Backend, const ggml_tensor *, ggml_tensor *);
    void (*synchronize)(Backend);
    ggml_backend_graph_plan_t (*graph_plan_create)(Backend, const ggml_cgraph *);
    void (*graph_plan_free)(Backend, ggml_backend_graph_plan_t);
    void (*graph_plan_update)(Backend, ggml_backend_graph_plan_t, const ggml_cgraph *);
    enum ggml_status (*graph_plan_compute)(Backend, ggml_backend_graph_plan_t);
    enum ggml_status (*graph_compute)(Backend, ggml_cgraph *);
    void (*event_record)(Backend, ggml_backend_event_t);
    void (*event_wait)(Backend, ggml_backend_event_t);
    void (*graph_optimize)(Backend, ggml_cgraph *, void *);
};
struct ggml_backend {
    ggml_guid_t guid;
    ggml_backend_i iface;
    Device device;
    void * context;
};
struct ggml_backend_event {
    Device device;
    void * context;
};
struct ggml_backend_device_i {
    const char * (*get_name)(Device);
    const char * (*get_description)(Device);
    void (*get_memory)(Device, size_t *, size_t *);
    enum ggml_backend_dev_type (*get_type)(Device);
    void (*get_props)(Device, ggml_backend_dev_props *);
    Backend (*init_backend)(Device, const char *);
    Type (*get_buffer_type)(Device);
    Type (*get_host_buffer_type)(Device);
    Buffer (*buffer_from_host_ptr)(Device, void *, size_t, size_t);
    bool (*supports_op)(Device, const ggml_tensor *);
    bool (*supports_buft)(Device, Type);
    bool (*offload_op)(Device, const ggml_tensor *);
    ggml_backend_event_t (*event_new)(Device);
    void (*event_free)(Device, ggml_backend_event_t);
    void (*event_synchronize)(Device, ggml_backend_event_t);
};
struct ggml_backend_device {
    ggml_backend_device_i iface;
    ggml_backend_reg_t reg;
    void * context;
};
struct ggml_backend_reg_i {
    const char * (*get_name)(ggml_backend_reg_t);
    size_t (*get_device_count)(ggml_backend_reg_t);
    Device (*get_device)(ggml_backend_reg_t, size_t);
    void * (*get_proc_address)(ggml_backend_reg_t, const char *);
};
struct ggml_backend_reg {
    int api_version;
    ggml_backend_reg_i iface;
    void * context;
};
void ggml_backend_register(ggml_backend_reg_t);
}

struct Fake {
    std::string name;
    size_t memory;
    ggml_backend_buffer_type buft;
    ggml_backend_device device;
};
static Fake * devices[8];
static int n_devices;
static ggml_backend_reg registry;
static ggml_backend_buffer_type host;
static ggml_guid guid = {9, 9, 9, 9};

static Fake * of(Device device) { return (Fake *) device->context; }

static void buffer_free(Buffer buffer) { free(buffer->context); }
static void * buffer_base(Buffer buffer) { return buffer->context ? buffer->context : (void *) 0x1000; }
static void buffer_set(Buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    memcpy((char *) tensor->data + offset, data, size);
}
static void buffer_get(Buffer, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    memcpy(data, (const char *) tensor->data + offset, size);
}
static void buffer_memset(Buffer, ggml_tensor * tensor, uint8_t value, size_t offset, size_t size) {
    memset((char *) tensor->data + offset, value, size);
}
static void buffer_clear(Buffer buffer, uint8_t value) {
    if (buffer->context && buffer->size) memset(buffer->context, value, buffer->size);
}
static const ggml_backend_buffer_i buffer_interface = {
    buffer_free, buffer_base, nullptr, buffer_memset, buffer_set, buffer_get, nullptr, nullptr, nullptr, buffer_clear,
    nullptr,
};

static const char * type_name(Type type) { return type->context ? ((Fake *) type->context)->name.c_str() : "FAKE_Host"; }
static Buffer type_alloc(Type type, size_t size) {
    void * memory = nullptr;
    if (posix_memalign(&memory, DEVICE_ALIGNMENT, size + DEVICE_ALIGNMENT)) return nullptr;
    return ggml_backend_buffer_init(type, buffer_interface, memory, size);
}
static size_t type_alignment(Type type) { return type->context ? DEVICE_ALIGNMENT : HOST_ALIGNMENT; }
static size_t type_alloc_size(Type type, const ggml_tensor * tensor) {
    size_t size = ggml_nbytes(tensor);
    int64_t beyond = tensor->ne[0] % CUDA_ROW_PADDING;
    if (type->context && ggml_is_quantized(tensor->type) && beyond)
        size += ggml_row_size(tensor->type, CUDA_ROW_PADDING - beyond);
    return size;
}
static bool type_is_host(Type type) { return type->context == nullptr; }

static const char * backend_name(Backend backend) { return of(backend->device)->name.c_str(); }
static void backend_free(Backend backend) { delete backend; }
static void backend_synchronize(Backend) {}
static enum ggml_status backend_compute(Backend, ggml_cgraph *) { return GGML_STATUS_FAILED; }
static void backend_event(Backend, ggml_backend_event_t) {}

static const char * device_name(Device device) { return of(device)->name.c_str(); }
static void device_memory(Device device, size_t * free, size_t * total) { *free = *total = of(device)->memory; }
static enum ggml_backend_dev_type device_type(Device) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
static void device_props(Device device, ggml_backend_dev_props * props) {
    memset(props, 0, sizeof *props);
    props->name = device_name(device);
    props->description = "fake";
    props->type = GGML_BACKEND_DEVICE_TYPE_GPU;
    device_memory(device, &props->memory_free, &props->memory_total);
    props->caps = {true, true, false, true};
}
static Backend device_init(Device device, const char *) {
    auto * backend = new ggml_backend();
    backend->guid = &guid;
    backend->device = device;
    backend->iface.get_name = backend_name;
    backend->iface.free = backend_free;
    backend->iface.synchronize = backend_synchronize;
    backend->iface.graph_compute = backend_compute;
    backend->iface.event_record = backend_event;
    backend->iface.event_wait = backend_event;
    return backend;
}
static Type device_buffer_type(Device device) { return &of(device)->buft; }
static Type device_host_buffer_type(Device) { return &host; }
static bool device_supports_op(Device, const ggml_tensor * op) {
    if (op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID) return true;
    return ggml_backend_dev_supports_op(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), op);
}
static bool device_supports_buffer_type(Device device, Type type) { return type == &of(device)->buft; }
static bool device_offloads(Device, const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_GET_ROWS: return false;
        case GGML_OP_MUL_MAT: return op->ne[1] >= OFFLOADED_FROM;
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE: return op->ne[2] >= OFFLOADED_FROM;
        default: return ggml_nrows(op) >= OFFLOADED_FROM;
    }
}
static ggml_backend_event_t event_new(Device device) {
    auto * event = new ggml_backend_event();
    event->device = device;
    return event;
}
static void event_free(Device, ggml_backend_event_t event) { delete event; }
static void event_synchronize(Device, ggml_backend_event_t) {}

static const char * registry_name(ggml_backend_reg_t) { return "FAKE"; }
static size_t registry_count(ggml_backend_reg_t) { return n_devices; }
static Device registry_device(ggml_backend_reg_t, size_t index) { return &devices[index]->device; }
static void * registry_address(ggml_backend_reg_t, const char *) { return nullptr; }

// Whether the library is of the version that these structures belong to; so many devices are then there.
extern "C" bool fake_register(int count, const size_t * memory) {
    if (strncmp(ggml_version(), "0.25.", 5) != 0) return false;
    n_devices = count;
    registry.api_version = API_VERSION;
    registry.iface = {registry_name, registry_count, registry_device, registry_address};
    for (int index = 0; index < count; index++) {
        Fake * fake = devices[index] = new Fake();
        fake->name = "FAKE" + std::to_string(index);
        fake->memory = memory[index];
        fake->device.iface = {
            device_name, device_name, device_memory, device_type, device_props, device_init, device_buffer_type,
            device_host_buffer_type, nullptr, device_supports_op, device_supports_buffer_type, device_offloads, event_new,
            event_free, event_synchronize,
        };
        fake->device.reg = &registry;
        fake->device.context = fake;
        fake->buft.iface = {type_name, type_alloc, type_alignment, nullptr, type_alloc_size, type_is_host};
        fake->buft.device = &fake->device;
        fake->buft.context = fake;
    }
    host.iface = {type_name, type_alloc, type_alignment, nullptr, nullptr, type_is_host};
    host.device = &devices[0]->device;
    ggml_backend_register(&registry);
    return true;
}

struct llama_memory_breakdown_data {
    size_t model, context, compute;
};
std::map<Type, llama_memory_breakdown_data> llama_get_memory_breakdown(const llama_context *);  // src/llama-ext.h

// Bytes of weights, cache and compute by buffer type, as JSON.
extern "C" void fake_breakdown(const llama_context * context, char * out, size_t size) {
    std::string text = "{";
    for (auto & [type, bytes] : llama_get_memory_breakdown(context)) {
        char row[256];
        snprintf(row, sizeof row, "%s\"%s\": [%zu, %zu, %zu]", text.size() > 1 ? ", " : "", ggml_backend_buft_name(type),
                 bytes.model, bytes.context, bytes.compute);
        text += row;
    }
    snprintf(out, size, "%s}", text.c_str());
}
