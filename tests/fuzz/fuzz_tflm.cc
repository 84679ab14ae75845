/* Hostile models for the TFLM component, under sanitizers.
 *
 * A small interpreter in this file stands for TFLM: tensors and options point into a file, as there. The file, every
 * activation, every scratch buffer and every operator's own memory has exactly its size, so that a sanitizer sees one
 * byte too far. Each input is a sound file (tests/tflnest/tflm/fuzz_seed.py writes it) in which bytes of options,
 * shapes, constants and directory, types, indices, places and scales are replaced, or any bytes for what looks things
 * up in the flatbuffer. What the component accepts is run at several levels, with pages that come and go.
 *
 * With libFuzzer:  -fsanitize=fuzzer,address,undefined, the sources of the component, and the environment variable
 *                  FUZZ_SEED with the path of the seed; its input is the list of replacements.
 * On its own:      -fsanitize=address,undefined and -DFUZZ_ALONE; arguments: seed, number of the series, inputs.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sanitizer/asan_interface.h>

#include "tensorflow/lite/micro/micro_context.h"
#include "tensorflow/lite/micro/micro_graph.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tflnest_tflm.h"

extern "C" {
#include "fuzz_model.h"
#include "tflnest_model_file.h"
}

using namespace tflite::micro;

namespace {

constexpr uint32_t kMaxTensors = 128, kMaxNodes = 8, kMaxScratch = 16, kOwnBytes = 1 << 13, kGuard = 32;
constexpr double kMaxProducts = 20000000.0;
constexpr uint64_t kMaxBytes = 1 << 20;

/* ------------------------------------------------------------------------------------------------- model */

/* What the seed says of a tensor and of a node: offsets are places in the file. */
struct SeedTensor {
    int32_t type;
    float scale;
    int32_t zero_point;
    uint32_t shape; /* of its vector, length first */
    uint32_t data;  /* 0: none */
};

struct SeedNode {
    uint32_t code;
    uint32_t inputs; /* of its vector, length first */
    uint32_t output;
    uint32_t options;
    uint32_t options_bytes;
};

struct Seed {
    uint32_t file_bytes, tensor_count, node_count, directory, directory_bytes;
    const uint8_t *file;
    const SeedTensor *tensors;
    const SeedNode *nodes;
};

struct FakeTensor {
    TfLiteEvalTensor eval;
    TfLiteTensor lent;
    bool is_lent;
    void *memory;
};

struct FakeNode {
    TfLiteNode node;
    TfLiteIntArray *inputs, *outputs;
    const TFLMRegistration *registration;
    bool is_ready;
};

MicroContext lender; /* it has no members */
MicroGraph whole;    /* nor has it */
int subgraphs;
TfLiteContext context = {&lender};
uint8_t *file;
uint32_t file_bytes;
FakeTensor tensors[kMaxTensors];
FakeNode nodes[kMaxNodes];
uint32_t tensor_count, node_count;
void *scratch[kMaxScratch];
uint32_t scratch_count;
alignas(16) uint8_t own[kOwnBytes]; /* what operators keep, near their nodes as in an arena */
uint32_t own_bytes;
uint32_t messages;
uint32_t accepted, refused, runs, opened;

TfLiteIntArray *ArrayOf(uint32_t count)
{
    auto *array = static_cast<TfLiteIntArray *>(calloc(1, sizeof(TfLiteIntArray) + count * sizeof(int)));
    array->size = static_cast<int>(count);
    return array;
}

/* Bytes of a tensor by its shape; 0 where that makes no sense or is too much. */
uint64_t BytesOf(const TfLiteEvalTensor &tensor)
{
    uint64_t bytes = tensor.type == kTfLiteInt32 ? 4 : 1;
    for (int i = 0; i < tensor.dims->size && i < 8; i++) {
        bytes *= tensor.dims->data[i] < 0 ? 0 : static_cast<uint64_t>(tensor.dims->data[i]);
        if (bytes > kMaxBytes) {
            return 0;
        }
    }
    return bytes;
}

void Load(const Seed &seed, uint32_t bytes)
{
    file_bytes = bytes;
    file = static_cast<uint8_t *>(aligned_alloc(16, (bytes + 15) / 16 * 16));
    memcpy(file, seed.file, bytes);
    tensor_count = seed.tensor_count;
    node_count = seed.node_count;
    for (uint32_t i = 0; i < tensor_count; i++) {
        const SeedTensor &from = seed.tensors[i];
        tensors[i] = {};
        tensors[i].eval.type = static_cast<TfLiteType>(from.type);
        tensors[i].eval.dims = reinterpret_cast<TfLiteIntArray *>(file + from.shape);
        tensors[i].eval.data.data = from.data == 0 ? nullptr : file + from.data;
        tensors[i].lent.params.scale = from.scale;
        tensors[i].lent.params.zero_point = from.zero_point;
    }
    for (uint32_t i = 0; i < node_count; i++) {
        const SeedNode &from = seed.nodes[i];
        FakeNode &made = nodes[i];
        made = {};
        uint32_t count;
        memcpy(&count, seed.file + from.inputs, sizeof count);
        made.inputs = ArrayOf(count);
        memcpy(made.inputs->data, seed.file + from.inputs + 4, count * sizeof(int));
        made.outputs = ArrayOf(1);
        made.outputs->data[0] = static_cast<int>(from.output);
        made.node.inputs = made.inputs;
        made.node.outputs = made.outputs;
        made.node.custom_initial_data = file + from.options;
        made.node.custom_initial_data_size = static_cast<int>(from.options_bytes);
        made.registration = from.code == 0   ? tflnest::Register_CONV_2D()
                            : from.code == 1 ? tflnest::Register_DEPTHWISE_CONV_2D()
                                             : tflnest::Register_FULLY_CONNECTED();
    }
}

void Unload()
{
    for (uint32_t i = 0; i < tensor_count; i++) {
        free(tensors[i].memory);
    }
    for (uint32_t i = 0; i < node_count; i++) {
        free(nodes[i].inputs);
        free(nodes[i].outputs);
    }
    while (scratch_count > 0) {
        free(scratch[--scratch_count]);
    }
    own_bytes = 0;
    free(file);
}

/* ------------------------------------------------------------------------------------------ replacements */

void ReplaceBytes(uint32_t offset, uint32_t size)
{
    for (uint32_t i = fuzz_draw(3) + 1; size > 0 && i > 0; i--) {
        const uint32_t at = offset + fuzz_draw(size);
        if (at < file_bytes) {
            file[at] = static_cast<uint8_t>(fuzz_edge(file[at]));
        }
    }
}

void ChangeTensor(const Seed &seed, bool is_open)
{
    const uint32_t index = fuzz_draw(tensor_count);
    FakeTensor &tensor = tensors[index];
    switch (fuzz_draw(6)) {
    case 0: tensor.eval.type = static_cast<TfLiteType>(fuzz_edge(tensor.eval.type) & 31); break;
    case 1: tensor.eval.data.data = nullptr; break;
    case 2:
        if (tensor.eval.data.data != nullptr && is_open) { /* a buffer that ends too early */
            tensor.eval.data.data = file + file_bytes / 16 * 16 - 16 * fuzz_draw(16);
        }
        break;
    case 3: { /* dimensions */
        const int32_t value = fuzz_edge(2);
        const uint32_t at = seed.tensors[index].shape + 4 + 4 * fuzz_draw(4);
        if (at + 4 <= file_bytes && reinterpret_cast<TfLiteIntArray *>(file + seed.tensors[index].shape)->size > 0) {
            memcpy(file + at, &value, sizeof value);
        }
        break;
    }
    case 4: tensor.lent.params.scale = fuzz_scale(); break;
    default: tensor.lent.params.zero_point = fuzz_edge(tensor.lent.params.zero_point); break;
    }
}

void ChangeNode(const Seed &seed, bool is_open)
{
    const uint32_t index = fuzz_draw(node_count);
    FakeNode &node = nodes[index];
    const auto inputs = static_cast<uint32_t>(node.inputs->size);
    switch (fuzz_draw(5)) {
    case 0: {
        const int wild = fuzz_edge(5), tame = static_cast<int>(fuzz_draw(tensor_count));
        node.inputs->data[inputs > 0 ? fuzz_draw(inputs) : 0] = is_open ? wild : tame;
        break;
    }
    case 1: node.inputs->size = static_cast<int>(fuzz_draw(inputs + 1)); break;
    case 2: node.outputs->data[0] = is_open ? fuzz_edge(node.outputs->data[0]) : static_cast<int>(fuzz_draw(tensor_count)); break;
    case 3: node.node.custom_initial_data_size = static_cast<int>(fuzz_draw(seed.nodes[index].options_bytes + 1)); break;
    default: ReplaceBytes(seed.nodes[index].options, seed.nodes[index].options_bytes); break;
    }
}

void ChangeDirectory(const Seed &seed)
{
    ReplaceBytes(seed.directory, fuzz_draw(2) ? seed.directory_bytes : TFLNEST_DIRECTORY_HEADER_BYTES);
    if (fuzz_draw(2) && seed.directory + seed.directory_bytes <= file_bytes) {
        fuzz_seal_directory(file + seed.directory, seed.directory_bytes);
    }
}

/* ---------------------------------------------------------------------------------------------- campaign */

bool PrepareAll()
{
    for (uint32_t i = 0; i < node_count; i++) {
        nodes[i].node.user_data = nodes[i].registration->init(
            &context, static_cast<const char *>(nodes[i].node.custom_initial_data),
            static_cast<size_t>(nodes[i].node.custom_initial_data_size));
    }
    for (uint32_t i = 0; i < node_count; i++) {
        messages = 0;
        if (nodes[i].registration->prepare(&context, &nodes[i].node) != kTfLiteOk) {
            CHECK(messages == 1);
            return false;
        }
        CHECK(messages == 0);
        nodes[i].is_ready = true;
    }
    return true;
}

/* Give activations their memory, as the planner does. */
void PlanActivations()
{
    for (uint32_t i = 0; i < tensor_count; i++) {
        const uint64_t bytes = BytesOf(tensors[i].eval);
        if (tensors[i].eval.data.data == nullptr && bytes > 0) {
            tensors[i].memory = calloc(1, bytes);
            tensors[i].eval.data.data = tensors[i].memory;
        }
    }
}

double ProductsOf(const FakeNode &node)
{
    double weights = 1;
    for (int i = 1; i < node.inputs->size; i++) {
        weights += 8.0 * static_cast<double>(BytesOf(tensors[node.inputs->data[i]].eval));
    }
    return weights * static_cast<double>(BytesOf(tensors[node.outputs->data[0]].eval));
}

void RunAll()
{
    for (uint32_t i = 0; i < node_count; i++) {
        const TfLiteEvalTensor &input = tensors[nodes[i].inputs->data[0]].eval;
        const TfLiteEvalTensor &output = tensors[nodes[i].outputs->data[0]].eval;
        if (ProductsOf(nodes[i]) < kMaxProducts && input.data.data != nullptr && output.data.data != nullptr) {
            CHECK(nodes[i].registration->invoke(&context, &nodes[i].node) == kTfLiteOk);
            runs++;
        }
    }
}

void Page(tflnest_tflm *model, const Seed &seed)
{
    const uint32_t page = fuzz_draw(6);
    const bool was_resident = (tflnest_tflm_resident(model) >> page & 1u) != 0;
    if (tflnest_tflm_page_out(model, page) == TFLNEST_OK) {
        CHECK(was_resident);
    }
    const uint32_t bytes = fuzz_draw(2) ? fuzz_draw(4096) : seed.file_bytes;
    auto *image = static_cast<uint8_t *>(aligned_alloc(16, (bytes + 31) / 16 * 16));
    memset(image, 0x5A, bytes);
    CHECK(tflnest_tflm_page_in(model, page, image, bytes) != TFLNEST_OK); /* the CRC-32 cannot match */
    free(image);
    (void)tflnest_tflm_page_in(model, page, nullptr, 0);
}

void SemanticInput(const Seed &seed)
{
    static tflnest_tflm model;
    const bool is_open = fuzz_draw(4) != 0;
    subgraphs = fuzz_draw(8) == 0 ? 2 : 1;
    Load(seed, seed.file_bytes);
    for (uint32_t i = fuzz_draw(4); i > 0; i--) {
        switch (fuzz_draw(8)) {
        case 0: ChangeDirectory(seed); break;
        case 1:
        case 2:
        case 3: ChangeTensor(seed, is_open); break;
        default: ChangeNode(seed, is_open); break;
        }
    }
    const bool is_known = is_open && tflnest_tflm_open(&model, file, file_bytes) == TFLNEST_OK;
    opened += is_known ? 1 : 0;
    if ((is_open && !is_known) || !PrepareAll()) {
        refused++;
    } else {
        CHECK(is_known || subgraphs == 1);
        accepted++;
        PlanActivations();
        RunAll();
        for (int i = 0; is_known && i < 4; i++) {
            (void)tflnest_tflm_set_level(&model, fuzz_draw(10));
            (void)tflnest_tflm_set_operator_level(&model, fuzz_draw(6), fuzz_draw(10));
            Page(&model, seed);
        }
        RunAll();
    }
    for (uint32_t i = 0; i < node_count; i++) {
        nodes[i].registration->free(&context, nodes[i].is_ready ? nodes[i].node.user_data : nullptr);
    }
    if (is_known) {
        CHECK(tflnest_tflm_operators(&model) == 0);
        tflnest_tflm_close(&model);
    }
    Unload();
}

/* Any bytes, for what looks things up in the flatbuffer. */
void StructuralInput(const Seed &seed)
{
    static tflnest_tflm model;
    const uint32_t size = fuzz_draw(3) ? seed.file_bytes : fuzz_draw(seed.file_bytes);
    Load(seed, size);
    for (uint32_t i = fuzz_draw(6); i > 0 && size > 0; i--) {
        const uint32_t at = fuzz_draw(2) ? fuzz_draw(size) : fuzz_draw(size < 256 ? size : 256);
        file[at] = static_cast<uint8_t>(fuzz_edge(file[at]));
    }
    messages = 0;
    const tflnest_status status = tflnest_tflm_open(&model, file, size);
    CHECK(messages == (status == TFLNEST_OK ? 0u : 1u));
    opened += status == TFLNEST_OK ? 1 : 0;
    const uint32_t found = tflnest_model_tensors_beside(file, size, file + seed.nodes[0].options);
    CHECK(found < 1u << 30);
    uint32_t alive[kMaxNodes];
    CHECK(tflnest_model_alive(file, size, file + seed.nodes[fuzz_draw(seed.node_count)].options, alive, kMaxNodes) <= kMaxNodes);
    tflnest_tflm_close(&model);
    Unload();
}

void OneInput(const Seed &seed)
{
    if (fuzz_draw(4) == 0) {
        StructuralInput(seed);
    } else {
        SemanticInput(seed);
    }
}

Seed ReadSeed(const char *path)
{
    size_t size;
    const uint8_t *bytes = fuzz_read_file(path, &size);
    Seed seed;
    memcpy(&seed, bytes, 20);
    seed.tensors = reinterpret_cast<const SeedTensor *>(bytes + 20);
    seed.nodes = reinterpret_cast<const SeedNode *>(seed.tensors + seed.tensor_count);
    seed.file = reinterpret_cast<const uint8_t *>(seed.nodes + seed.node_count);
    CHECK(seed.tensor_count <= kMaxTensors && seed.node_count <= kMaxNodes);
    CHECK(seed.file + seed.file_bytes == bytes + size);
    return seed;
}

}  // namespace

/* ------------------------------------------------------------------------------------------- interpreter */

namespace tflite {
namespace micro {

void *MicroContextAllocatePersistentBuffer(TfLiteContext *, size_t bytes)
{
    const auto taken = static_cast<uint32_t>(bytes + 15) / 16 * 16 + kGuard;
    CHECK(taken <= kOwnBytes - own_bytes);
    uint8_t *made = own + own_bytes;
    ASAN_UNPOISON_MEMORY_REGION(made, bytes);
    ASAN_POISON_MEMORY_REGION(made + bytes, taken - bytes);
    memset(made, 0, bytes);
    own_bytes += taken;
    return made;
}

TfLiteStatus MicroContextRequestScratchBufferInArena(TfLiteContext *, size_t bytes, int *index)
{
    CHECK(scratch_count < kMaxScratch);
    if (bytes > kMaxBytes) {
        return kTfLiteError;
    }
    scratch[scratch_count] = aligned_alloc(16, (bytes + 15) / 16 * 16);
    *index = static_cast<int>(scratch_count++);
    return kTfLiteOk;
}

void *MicroContextGetScratchBuffer(TfLiteContext *, int index)
{
    CHECK(index >= 0 && static_cast<uint32_t>(index) < scratch_count);
    return scratch[index];
}

TfLiteEvalTensor *MicroContextGetEvalTensor(const TfLiteContext *, int index)
{
    CHECK(index >= 0 && static_cast<uint32_t>(index) < tensor_count);
    return &tensors[index].eval;
}

TfLiteTensor *Lend(int index)
{
    CHECK(index >= 0 && static_cast<uint32_t>(index) < tensor_count && !tensors[index].is_lent);
    FakeTensor &tensor = tensors[index];
    tensor.is_lent = true;
    tensor.lent.type = tensor.eval.type;
    tensor.lent.dims = tensor.eval.dims;
    tensor.lent.data = tensor.eval.data;
    tensor.lent.bytes = BytesOf(tensor.eval);
    return &tensor.lent;
}

TfLiteTensor *MicroContext::AllocateTempInputTensor(const TfLiteNode *node, int index)
{
    return Lend(node->inputs->data[index]);
}

TfLiteTensor *MicroContext::AllocateTempOutputTensor(const TfLiteNode *node, int index)
{
    return Lend(node->outputs->data[index]);
}

MicroGraph &MicroInterpreterContext::graph()
{
    return whole;
}

int MicroInterpreterGraph::NumSubgraphs()
{
    return subgraphs;
}

void MicroInterpreterContext::DeallocateTempTfLiteTensor(TfLiteTensor *tensor)
{
    for (uint32_t i = 0; i < tensor_count; i++) {
        if (&tensors[i].lent == tensor) {
            CHECK(tensors[i].is_lent);
            tensors[i].is_lent = false;
        }
    }
}

}  // namespace micro
}  // namespace tflite

#include "fuzz_campaign.h"
