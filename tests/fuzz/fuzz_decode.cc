/* Hostile models for what decodes nested filters in TFLM, under sanitizers.
 *
 * This file stands for TFLM's operator DECODE: constants point into a file, as there. The file, every page image and
 * everything that is decoded has exactly its size, so that a sanitizer sees one byte too far. Each input is a sound file
 * (tests/tflnest/tflm/fuzz_seed.py writes it) in which bytes of ancillary data and of the table of pages, sizes, types
 * and places are replaced, or any bytes at all. What is accepted is decoded at several levels, with pages that come
 * and go.
 *
 * With libFuzzer:  -fsanitize=fuzzer,address,undefined, the sources of the component, and the environment variable
 *                  FUZZ_SEED with the path of the seed; its input is the list of replacements.
 * On its own:      -fsanitize=address,undefined and -DFUZZ_ALONE; arguments: seed, number of the series, inputs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/lite/micro/micro_log.h"
#include "tflnest_tflm_decode.h"

extern "C" {
#include "fuzz_model.h"
#include "tflnest_decode_format.h"
}

using namespace tflite::micro;

namespace {

constexpr uint32_t kMaxDecoders = 32, kMaxPages = 8, kArenaBytes = 1 << 13;

/* ------------------------------------------------------------------------------------------------- model */

/* What the seed says of a decoded tensor: offsets are places in the file. */
struct SeedTensor {
    uint32_t encoded;
    uint32_t encoded_bytes;
    uint32_t ancillary;
    uint32_t ancillary_bytes;
    uint32_t type;
    uint32_t output_bytes;
};

struct Seed {
    uint32_t file_bytes, tensor_count, page_count, pages, pages_bytes;
    const uint8_t *file;
    const SeedTensor *tensors;
    const uint32_t *page_bytes;
    const uint8_t *images[kMaxPages];
};

struct Loaded {
    TfLiteTensor input, ancillary, output;
    DecodeState *state;
    void *memory;
};

TfLiteContext context = {};
uint8_t *file;
uint32_t file_bytes;
Loaded tensors[kMaxDecoders];
uint8_t *images[kMaxPages];
alignas(16) uint8_t arena[kArenaBytes];
uint32_t arena_bytes, messages;
unsigned accepted, refused, runs, opened;

void Load(const Seed &seed, uint32_t bytes)
{
    file_bytes = bytes;
    file = static_cast<uint8_t *>(malloc(bytes > 0 ? bytes : 1));
    memcpy(file, seed.file, bytes);
    for (uint32_t i = 0; i < seed.tensor_count; i++) {
        const SeedTensor &from = seed.tensors[i];
        tensors[i] = {};
        tensors[i].input.type = tensors[i].ancillary.type = kTfLiteUInt8;
        tensors[i].input.allocation_type = tensors[i].ancillary.allocation_type = kTfLiteMmapRo;
        tensors[i].input.data.data = file + from.encoded;
        tensors[i].input.bytes = from.encoded_bytes;
        tensors[i].ancillary.data.data = file + from.ancillary;
        tensors[i].ancillary.bytes = from.ancillary_bytes;
        tensors[i].output.type = static_cast<TfLiteType>(from.type);
        tensors[i].output.bytes = from.output_bytes;
    }
    for (uint32_t i = 0; i < seed.page_count; i++) {
        images[i] = static_cast<uint8_t *>(aligned_alloc(8, seed.page_bytes[i]));
        memcpy(images[i], seed.images[i], seed.page_bytes[i]);
    }
    arena_bytes = 0;
}

void Unload(const Seed &seed)
{
    for (uint32_t i = 0; i < seed.tensor_count; i++) {
        free(tensors[i].memory);
    }
    for (uint32_t i = 0; i < seed.page_count; i++) {
        free(images[i]);
    }
    free(file);
}

/* ------------------------------------------------------------------------------------------ replacements */

void ReplaceByte(uint32_t offset, uint32_t bytes)
{
    const uint32_t at = offset + fuzz_draw(bytes);
    if (at < file_bytes) {
        file[at] = static_cast<uint8_t>(fuzz_edge(file[at]));
    }
}

/* Constants lie anywhere only in files that are opened: without, TFLM is trusted to point to vectors. */
void ChangeTensor(const Seed &seed, bool is_open)
{
    const uint32_t index = fuzz_draw(seed.tensor_count);
    const SeedTensor &from = seed.tensors[index];
    Loaded &tensor = tensors[index];
    switch (fuzz_draw(8)) {
    case 0: tensor.output.type = static_cast<TfLiteType>(fuzz_edge(tensor.output.type) & 31); break;
    case 1: tensor.output.bytes = static_cast<size_t>(fuzz_edge(static_cast<int32_t>(from.output_bytes))); break;
    case 2: tensor.input.bytes = static_cast<size_t>(fuzz_edge(static_cast<int32_t>(from.encoded_bytes))); break;
    case 3: tensor.ancillary.bytes = static_cast<size_t>(fuzz_edge(static_cast<int32_t>(from.ancillary_bytes))); break;
    case 4:
        if (is_open) {
            tensor.input.data.data = file + file_bytes / 2 + fuzz_draw(file_bytes / 2);
        }
        break;
    case 5:
        if (is_open) {
            tensor.ancillary.data.data = fuzz_draw(2) ? nullptr : file + file_bytes - 1 - fuzz_draw(64);
        }
        break;
    default: ReplaceByte(from.ancillary, from.ancillary_bytes); break;
    }
}

/* ---------------------------------------------------------------------------------------------- campaign */

bool PrepareAll(const Seed &seed)
{
    constexpr auto registration = tflnest::DecodeRegistration();
    for (uint32_t i = 0; i < seed.tensor_count; i++) {
        Loaded &tensor = tensors[i];
        tensor.state = registration.create_state(registration, context, nullptr);
        messages = 0;
        const bool fits = tensor.output.bytes < 1 << 20;
        if (!fits || tensor.state->Setup(tensor.input, tensor.ancillary, tensor.output) != kTfLiteOk) {
            CHECK(!fits || messages == 1);
            return false;
        }
        CHECK(messages == 0);
        tensor.memory = malloc(tensor.output.bytes);
    }
    return true;
}

void RunAll(const Seed &seed)
{
    for (uint32_t i = 0; i < seed.tensor_count; i++) {
        const Loaded &tensor = tensors[i];
        const TfLiteEvalTensor input = {tensor.input.data, nullptr, tensor.input.type};
        const TfLiteEvalTensor ancillary = {tensor.ancillary.data, nullptr, tensor.ancillary.type};
        TfLiteEvalTensor output = {{}, nullptr, tensor.output.type};
        output.data.data = tensor.memory;
        CHECK(tensor.state->Decode(input, ancillary, output) == kTfLiteOk);
        runs++;
    }
}

void Page(tflnest_decoded *decoded, const Seed &seed)
{
    const uint32_t page = fuzz_draw(seed.page_count + 1);
    (void)tflnest_decoded_set_level(decoded, fuzz_draw(10));
    (void)tflnest_decoded_set_operator_level(decoded, fuzz_draw(6), fuzz_draw(10));
    (void)tflnest_decoded_page_out(decoded, page);
    if (page < seed.page_count && fuzz_draw(2)) {
        (void)tflnest_decoded_page_in(decoded, page, images[page], seed.page_bytes[page]);
    } else {
        (void)tflnest_decoded_page_in(decoded, page, nullptr, 0);
    }
}

void OneInput(const Seed &seed)
{
    static tflnest_decoded decoded;
    const bool is_structural = fuzz_draw(8) == 0, is_open = fuzz_draw(4) != 0;
    Load(seed, seed.file_bytes);
    for (uint32_t i = fuzz_draw(4); i > 0; i--) {
        if (is_structural) {
            ReplaceByte(0, fuzz_draw(2) ? 256 : file_bytes);
        } else if (fuzz_draw(6) == 0) {
            ReplaceByte(seed.pages, seed.pages_bytes);
        } else {
            ChangeTensor(seed, is_open);
        }
    }
    messages = 0;
    const bool is_known = is_open && tflnest_decoded_open(&decoded, file, file_bytes) == TFLNEST_OK;
    CHECK(messages == (is_open && !is_known ? 1u : 0u));
    opened += is_known ? 1 : 0;
    for (int i = 0; is_known && i < 2 && fuzz_draw(2); i++) {
        Page(&decoded, seed);
    }
    if ((is_open && !is_known) || !PrepareAll(seed)) {
        refused++;
    } else {
        accepted++;
        RunAll(seed);
        for (int i = 0; is_known && i < 4; i++) {
            Page(&decoded, seed);
            RunAll(seed);
        }
    }
    if (is_known) {
        tflnest_decoded_close(&decoded);
    }
    Unload(seed);
}

Seed ReadSeed(const char *path)
{
    size_t size;
    const uint8_t *bytes = fuzz_read_file(path, &size);
    Seed seed;
    memcpy(&seed, bytes, 20);
    CHECK(seed.tensor_count <= kMaxDecoders && seed.page_count <= kMaxPages);
    seed.tensors = reinterpret_cast<const SeedTensor *>(bytes + 20);
    seed.page_bytes = reinterpret_cast<const uint32_t *>(seed.tensors + seed.tensor_count);
    const auto *next = reinterpret_cast<const uint8_t *>(seed.page_bytes + seed.page_count);
    for (uint32_t i = 0; i < seed.page_count; i++) {
        seed.images[i] = next;
        next += seed.page_bytes[i];
    }
    seed.file = next;
    CHECK(next + seed.file_bytes == bytes + size);
    return seed;
}

}  // namespace

/* ------------------------------------------------------------------------------------------- interpreter */

namespace tflite {
namespace micro {

void *MicroContextAllocatePersistentBuffer(TfLiteContext *, size_t bytes)
{
    const auto taken = static_cast<uint32_t>(bytes + 15) / 16 * 16;
    CHECK(taken <= kArenaBytes - arena_bytes);
    void *made = arena + arena_bytes;
    arena_bytes += taken;
    return made;
}

}  // namespace micro
}  // namespace tflite

#include "fuzz_campaign.h"
