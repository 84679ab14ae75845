#include "tflnest_tflm.h"

#include <string.h>

#include "tensorflow/lite/micro/micro_context.h"
#include "tensorflow/lite/micro/micro_graph.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tflnest/tflnest_crc32.h"

extern "C" {
#include "tflnest_compact.h"
#include "tflnest_directory.h"
#include "tflnest_model_file.h"
#include "tflnest_nested_call.h"
#include "tflnest_nested_filter.h"
#include "tflnest_options.h"
}

/* Bytes of scratch that every operator may take beyond what the stock model would leave free. */
#ifndef TFLNEST_TFLM_EXTRA_SCRATCH
#define TFLNEST_TFLM_EXTRA_SCRATCH 0
#endif

/* Bytes of stack that an operator may take as scratch instead: no more than preparing operators takes anyway. */
#ifndef TFLNEST_TFLM_STACK_SCRATCH
#define TFLNEST_TFLM_STACK_SCRATCH 1280
#endif

/* TFLM has its names in `tflite` and the global namespace until October 2026, and in `tflite::micro` since. */
namespace tflite {
namespace micro {}
}  // namespace tflite

namespace tflnest {
namespace {

using namespace ::tflite;
using namespace ::tflite::micro;

constexpr uint32_t kMaxConstants = 2 * TFLNEST_MAX_LEVELS;
constexpr uint32_t kMaxAlive = 16;
constexpr uintptr_t kImageAlignment = 8;
constexpr const char *kCustomCodes[] = TFLNEST_CUSTOM_CODES;
constexpr int32_t kTiles[] = TFLNEST_COMPACT_TILES;

/* The files that are open. */
tflnest_tflm *open_models = nullptr;

/* ------------------------------------------------------------------------------------------------- nodes
 *
 * Arena is dear, and TFLM's node of a custom operator has two pointers that only others use: `builtin_data` leads to
 * the next nested node, and `user_data`, with `intermediates` where pointers have 32 bits, holds what the operator
 * keeps, or leads to it.
 */

/* What an operator keeps in the arena, where a window slides. */
struct Sliding {
    tflnest_compact compact;
    tflnest_compact_window window;
};

constexpr size_t kWords = sizeof(tflnest_compact) / sizeof(void *);
static_assert(kWords * sizeof(void *) == sizeof(tflnest_compact) && (kWords == 1 || kWords == 2), "two pointers");

TfLiteNode *Next(const TfLiteNode *node)
{
    return static_cast<TfLiteNode *>(node->builtin_data);
}

Sliding *SlidingOf(const TfLiteNode *node)
{
    return static_cast<Sliding *>(node->user_data);
}

bool Slides(uint32_t stock)
{
    return stock != TFLNEST_STOCK_FULLY_CONNECTED;
}

tflnest_compact CompactOf(const TfLiteNode *node, uint32_t stock)
{
    if (Slides(stock)) {
        return SlidingOf(node)->compact;
    }
    const void *words[] = {node->user_data, node->intermediates};
    tflnest_compact compact;
    memcpy(&compact, words, sizeof compact);
    return compact;
}

void SetCompact(TfLiteNode *node, uint32_t stock, const tflnest_compact &compact)
{
    if (Slides(stock)) {
        SlidingOf(node)->compact = compact;
        return;
    }
    void *words[] = {node->user_data, node->intermediates};
    memcpy(words, &compact, sizeof compact);
    node->user_data = words[0];
    node->intermediates = static_cast<TfLiteIntArray *>(words[1]);
}

TfLiteNode *FirstOf(const tflnest_tflm *model)
{
    return static_cast<TfLiteNode *>(model->operators);
}

/* ---------------------------------------------------------------------------------------------- scratch
 *
 * The kernels leave multipliers and shifts in the file, which stock kernels keep in the arena. What all operators
 * save so, any one of them may take as scratch: the arena does not become larger than with the stock model. So may
 * it take what was alive during an earlier operator beyond what is alive now; only an open file tells how much that is.
 */

/* What is known of the interpreter whose tensors are being allocated. */
struct Budget {
    const void *context;
    bool is_preparing;
    int32_t saved;    /* bytes, by all operators together */
    int32_t largest;  /* bytes that are alive during an operator, so far */
    int highest;      /* index of a constant of the operators so far */
    TfLiteNode *first; /* nested operators that were prepared */
    TfLiteNode *last;
};

Budget budget;

constexpr int32_t AlignUp(int32_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

/* Bytes of an operator in the arena, by what they are. */
constexpr int32_t kTensor = static_cast<int32_t>(sizeof(TfLiteEvalTensor));
constexpr int32_t kPointer = static_cast<int32_t>(sizeof(void *));
constexpr int32_t kSliding = AlignUp(static_cast<int32_t>(sizeof(Sliding)));

/* The same of TFLM's reference kernels: their own structures, and the options. CMSIS-NN's take more. */
#ifdef CMSIS_NN
constexpr int32_t kStockConv = AlignUp(4 * 14 + 2 * kPointer) + 28;
constexpr int32_t kStockFullyConnected = AlignUp(4 * 15 + 3 * kPointer) + 5;
#else
constexpr int32_t kStockConv = AlignUp(4 * 13 + 2 * kPointer) + 28;
constexpr int32_t kStockFullyConnected = AlignUp(4 * 10 + 2 * kPointer) + 5;
#endif

/* What an operator saves against the stock one if no two of its constants are one tensor; its per-channel scales if it
 * has some. */
int32_t Saved(const tflnest_options &options)
{
    const int32_t tensors = static_cast<int32_t>(tflnest_nested_inputs(&options)) - 3;
    const int32_t more = tensors * kTensor + kPointer;
    if (options.stock == TFLNEST_STOCK_FULLY_CONNECTED) {
        return kStockFullyConnected - more;
    }
    const int32_t scales = options.channels < (1u << 24) ? 2 * AlignUp(4 * static_cast<int32_t>(options.channels)) : 0;
    return kStockConv + scales - kSliding - more;
}

/* Whether an operator before this one, or an input before that one, is the same tensor. */
bool IsRepeated(const TfLiteNode *node, int input)
{
    const int index = node->inputs->data[input];
    for (int i = 1; i < input; i++) {
        if (node->inputs->data[i] == index) {
            return true;
        }
    }
    for (const TfLiteNode *other = budget.first; index <= budget.highest && other != nullptr; other = Next(other)) {
        for (int i = 1; i < other->inputs->size; i++) {
            if (other->inputs->data[i] == index) {
                return true;
            }
        }
    }
    return false;
}

/* Add what an operator saves because some of its constants are one tensor to the budget. */
void CountTensors(const TfLiteNode *node)
{
    int highest = budget.highest;
    for (int i = 2; i < node->inputs->size; i++) { /* the filter of the stock operator would be one tensor, too */
        const int index = node->inputs->data[i];
        budget.saved += IsRepeated(node, i) ? kTensor : 0;
        highest = index > highest ? index : highest;
    }
    budget.highest = highest;
}

/* Bytes of scratch that the stock operator takes. */
int32_t StockScratch(const tflnest_call &call)
{
#if defined(CMSIS_NN) && defined(__ARM_FEATURE_DSP)
    if (call.stock == TFLNEST_STOCK_CONV_2D) {
        const tflnest_conv_params &params = call.params.conv;
        const int64_t products = static_cast<int64_t>(params.filter.height) * params.filter.width *
                                 (params.input.channels / params.groups);
        const bool is_pointwise = params.filter.height == 1 && params.filter.width == 1;
        return is_pointwise || products > 65536 ? 0 : static_cast<int32_t>(4 * products);
    }
#else
    (void)call;
#endif
    return 0;
}

/* Choose the fastest tile whose scratch the budget has, or the stack; returns bytes of the arena. */
uint32_t ChooseTile(tflnest_call *call, int32_t live)
{
    int64_t allowed = (budget.saved > 0 ? budget.saved : 0) + StockScratch(*call) + TFLNEST_TFLM_EXTRA_SCRATCH;
    if (live > budget.largest) {
        budget.largest = live;
    }
    allowed += live < 0 ? 0 : budget.largest - live;
    for (const int32_t tile : kTiles) {
        tflnest_call_set_tile(call, tile);
        const uint32_t bytes = tflnest_call_scratch(call);
        if (bytes <= allowed) {
            return bytes;
        }
        if (bytes <= TFLNEST_TFLM_STACK_SCRATCH) {
            break;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ tensors */

bool LiesInside(const tflnest_tflm *model, const void *data, size_t bytes)
{
    const uintptr_t start = reinterpret_cast<uintptr_t>(model->file), at = reinterpret_cast<uintptr_t>(data);
    return at >= start && at - start <= model->size && bytes <= model->size - (at - start);
}

/* The open file that a node's options lie in, for this interpreter. */
tflnest_tflm *FindModel(const void *context, const void *options)
{
    for (tflnest_tflm *model = open_models; model != nullptr; model = model->next) {
        if ((model->operators == nullptr || model->context == context) && LiesInside(model, options, 1)) {
            return model;
        }
    }
    return nullptr;
}

/* Bytes of a tensor of a type that nested operators have; SIZE_MAX where its shape makes no sense. */
size_t BytesOf(const TfLiteEvalTensor *tensor, const tflnest_tflm *model)
{
    uint64_t bytes = tensor->type == kTfLiteInt32 ? 4 : 1;
    const TfLiteIntArray *dims = tensor->dims;
    if (dims == nullptr || (model != nullptr && LiesInside(model, dims, 1) && !LiesInside(model, dims, 4))) {
        return SIZE_MAX;
    }
    const int rank = dims->size;
    if (rank < 0 || rank > static_cast<int>(TFLNEST_MAX_RANK) ||
        (model != nullptr && LiesInside(model, dims, 1) &&
         !LiesInside(model, dims, 4 + 4 * static_cast<size_t>(rank)))) {
        return SIZE_MAX;
    }
    for (int i = 0; i < rank; i++) {
        const int size = dims->data[i];
        bytes *= size < 0 ? 0 : static_cast<uint64_t>(size);
        if (size < 0 || bytes > INT32_MAX) {
            return SIZE_MAX;
        }
    }
    return static_cast<size_t>(bytes);
}

bool HasShape(TfLiteContext *context, int index, const tflnest_tflm *model)
{
    const TfLiteEvalTensor *tensor = context->GetEvalTensor(context, index);
    return tensor != nullptr && BytesOf(tensor, model) != SIZE_MAX;
}

/* The shape of a tensor; a rank of 0 where it has none or too many dimensions. */
tflnest_dimensions DimensionsOf(const TfLiteIntArray *dims)
{
    tflnest_dimensions dimensions = {{0}, 0};
    if (dims != nullptr && dims->size > 0 && dims->size <= static_cast<int>(TFLNEST_MAX_RANK)) {
        dimensions.rank = static_cast<uint32_t>(dims->size);
        for (uint32_t i = 0; i < dimensions.rank; i++) {
            dimensions.values[i] = dims->data[i];
        }
    }
    return dimensions;
}

/* Whether a buffer of the file has so many bytes. Without an open file, the length in front of it tells: it is a vector
 * of a flatbuffer. */
bool IsWhole(const tflnest_tflm *model, const void *data, size_t bytes)
{
    if (model != nullptr) {
        return LiesInside(model, data, bytes);
    }
    uint32_t length = 0;
    memcpy(&length, static_cast<const uint8_t *>(data) - sizeof length, sizeof length);
    return bytes <= length;
}

/* Fill the constants of a node; those that the file does not have stay NULL. */
const char *ReadConstants(TfLiteContext *context, const TfLiteNode *node, const tflnest_tflm *model, uint32_t count,
                          tflnest_constant *constants)
{
    for (uint32_t i = 0; i < count; i++) {
        const TfLiteEvalTensor *tensor = context->GetEvalTensor(context, node->inputs->data[1 + i]);
        const size_t bytes = tensor == nullptr ? SIZE_MAX : BytesOf(tensor, model);
        if (bytes == SIZE_MAX) {
            return "the shape of one of its constants makes no sense";
        }
        const void *data = bytes > 0 ? tensor->data.data : nullptr;
        if (data != nullptr && !IsWhole(model, data, bytes)) {
            return "one of its constants is larger than its buffer in the file";
        }
        constants[i].type = static_cast<uint32_t>(tensor->type);
        constants[i].bytes = bytes;
        constants[i].data = data;
        if (tensor->type != kTfLiteInt32 && tensor->type != kTfLiteInt8 && tensor->type != kTfLiteUInt8) {
            return "one of its constants has a type that it cannot have";
        }
    }
    return nullptr;
}

/* Bytes of activations that are alive while a node runs, as they are planned; -1 where that is not known. */
int32_t LiveBytes(TfLiteContext *context, const TfLiteNode *node, const tflnest_tflm *model)
{
    uint32_t alive[kMaxAlive];
    uint64_t bytes = 0;
    if (model == nullptr) {
        return -1;
    }
    const void *options = node->custom_initial_data;
    const uint32_t count = tflnest_model_alive(model->file, model->size, options, alive, kMaxAlive);
    const uint32_t tensors = tflnest_model_tensors_beside(model->file, model->size, options);
    for (uint32_t i = 0; i < count; i++) {
        const TfLiteEvalTensor *tensor =
            alive[i] < tensors ? context->GetEvalTensor(context, static_cast<int>(alive[i])) : nullptr;
        const size_t own = tensor == nullptr ? SIZE_MAX : BytesOf(tensor, model);
        if (own == SIZE_MAX || (tensor->type != kTfLiteInt8 && tensor->type != kTfLiteInt32)) {
            return -1;
        }
        bytes += tensor->data.data == nullptr ? (own + 15) / 16 * 16 : 0;
    }
    return count == 0 || bytes > INT32_MAX ? -1 : static_cast<int32_t>(bytes);
}

/* Whether all tensors of a node are there. */
const char *CheckIndices(const TfLiteNode *node, const tflnest_tflm *model, const tflnest_options &options)
{
    if (node->inputs == nullptr || node->outputs == nullptr || node->outputs->size != 1 ||
        node->inputs->size != static_cast<int>(tflnest_nested_inputs(&options))) {
        return "its options ask for another number of inputs or outputs";
    }
    int64_t limit = INT32_MAX;
    if (model != nullptr) {
        limit = tflnest_model_tensors_beside(model->file, model->size, node->custom_initial_data);
    }
    for (int i = 0; i < node->inputs->size; i++) {
        if (node->inputs->data[i] < 0 || node->inputs->data[i] >= limit) {
            return "one of its inputs is absent";
        }
    }
    const int output = node->outputs->data[0];
    return output < 0 || output >= limit || output == node->inputs->data[0] ? "its output is absent" : nullptr;
}

/* ----------------------------------------------------------------------------------------------- Prepare */

/* Everything that is checked of an operator, on the stack while it is prepared. */
struct Reading {
    tflnest_options options;
    tflnest_nested_filter filter;
    tflnest_call call;
};

const char *MakeCall(Reading *reading, const TfLiteTensor *input, const TfLiteTensor *output)
{
    if (input->type != kTfLiteInt8 || output->type != kTfLiteInt8 || output->data.data != nullptr) {
        return "its input or output is no int8 activation";
    }
    const tflnest_dimensions from = DimensionsOf(input->dims), planned = DimensionsOf(output->dims);
    const tflnest_quantization source = {input->params.scale, input->params.zero_point};
    const tflnest_quantization target = {output->params.scale, output->params.zero_point};
    tflnest_dimensions to = {};
    const char *problem = tflnest_call_make(&reading->call, &reading->options, &from, source, target, &to);
    if (problem != nullptr) {
        return problem;
    }
    if (to.rank != planned.rank || memcmp(to.values, planned.values, to.rank * sizeof to.values[0]) != 0) {
        return "the shape of its output is another one than its input and options ask for";
    }
    for (uint32_t i = 0; i < reading->filter.available; i++) {
        if (!tflnest_call_is_sound(&reading->call, &reading->filter.levels[i])) {
            return "its multipliers, shifts, alignment or sizes are not what the kernels compute with";
        }
        if (!tflnest_nested_filter_fits(&reading->filter, i)) {
            return "its planes join to weights outside int8";
        }
    }
    return nullptr;
}

/* The same, with the tensors that TFLM lends for it. */
const char *ReadActivations(TfLiteContext *context, const TfLiteNode *node, const tflnest_tflm *model,
                            Reading *reading)
{
    if (!HasShape(context, node->inputs->data[0], model) || !HasShape(context, node->outputs->data[0], model)) {
        return "the shape of its input or output makes no sense";
    }
    MicroContext *lender = GetMicroContext(context);
    TfLiteTensor *input = lender->AllocateTempInputTensor(node, 0);
    TfLiteTensor *output = input == nullptr ? nullptr : lender->AllocateTempOutputTensor(node, 0);
    const char *problem =
        output == nullptr ? "the arena is too small to prepare it" : MakeCall(reading, input, output);
    if (output != nullptr) {
        lender->DeallocateTempTfLiteTensor(output);
    }
    if (input != nullptr) {
        lender->DeallocateTempTfLiteTensor(input);
    }
    return problem;
}

const char *Read(TfLiteContext *context, const TfLiteNode *node, const tflnest_tflm *model, const char *custom_code,
                 Reading *reading)
{
    tflnest_constant constants[kMaxConstants] = {};
    const int size = node->custom_initial_data_size;
    const char *problem = tflnest_options_read(&reading->options, custom_code, node->custom_initial_data,
                                               size < 0 ? 0 : static_cast<uint32_t>(size));
    if (problem == nullptr && model != nullptr && reading->options.model_levels.count != model->level_count) {
        problem = "its model_levels are not as many as the levels of the model";
    }
    problem = problem == nullptr ? CheckIndices(node, model, reading->options) : problem;
    if (problem == nullptr) {
        problem = ReadConstants(context, node, model, tflnest_nested_inputs(&reading->options) - 1, constants);
    }
    if (problem == nullptr) {
        problem = tflnest_nested_filter_bind(&reading->filter, &reading->options, constants);
    }
    if (problem == nullptr && reading->filter.available == 0) {
        problem = "the file does not have the base page";
    }
    return problem == nullptr ? ReadActivations(context, node, model, reading) : problem;
}

/* The page that completes an own level. */
uint32_t PageOf(const tflnest_options &options, uint32_t position)
{
    uint32_t page = 0;
    while (options.model_levels.values[page] < static_cast<int32_t>(position)) {
        page++;
    }
    return page;
}

/* The pages that an own level reads, one bit each. */
uint32_t PagesOf(const tflnest_options &options, uint32_t position)
{
    uint32_t pages = 0;
    for (uint32_t i = 0; i <= position; i++) {
        pages |= 1u << PageOf(options, i);
    }
    return pages;
}

/* The highest own level whose pages are there; -1 where there is none. */
int HighestLevel(const Reading &reading, const tflnest_tflm *model)
{
    int position = static_cast<int>(reading.filter.available) - 1;
    while (position >= 0) {
        const uint32_t pages = PagesOf(reading.options, static_cast<uint32_t>(position));
        if (model == nullptr || (pages & ~static_cast<uint32_t>(model->resident)) == 0) {
            break;
        }
        position--;
    }
    return position;
}

/* Put an operator at the end of the list. */
void Link(TfLiteNode *node, tflnest_tflm *model)
{
    node->builtin_data = nullptr;
    if (budget.last == nullptr) {
        budget.first = node;
    } else {
        budget.last->builtin_data = node;
    }
    budget.last = node;
    if (model != nullptr && model->operators == nullptr) {
        model->operators = node;
    }
}

/* Keep what was read. */
const char *Keep(TfLiteContext *context, TfLiteNode *node, tflnest_tflm *model, Reading *reading)
{
    const int position = HighestLevel(*reading, model);
    if (position < 0) {
        return "no level has all its pages";
    }
    if (reading->options.activation_bits.values[position] != TFLNEST_MASTER_BITS) {
        return "its highest level reads activations at fewer than 8 bits, which this runtime does not do";
    }
    if (model != nullptr) {
        void *tensors = context->GetEvalTensor(context, 0);
        model->context = context;
        model->tensors = model->operators == nullptr || model->tensors == tensors ? tensors : nullptr;
    } else if (GetMicroContext(context)->graph().NumSubgraphs() > 1) {
        /* TFLM plans no memory for a controller's subgraph, and writes through a pointer that it never set where an
         * operator there asks for scratch. Only an open file tells whether it has one. */
        return "its file has several subgraphs, one of them maybe a controller's: open it first (tflnest_tflm_open)";
    }
    CountTensors(node);
    const uint32_t scratch = ChooseTile(&reading->call, LiveBytes(context, node, model));
    const uint32_t stock = reading->options.stock;
    int index = -1;
    if (Slides(stock)) {
        node->user_data = context->AllocatePersistentBuffer(context, sizeof(Sliding));
    }
    if ((Slides(stock) && node->user_data == nullptr) ||
        (scratch > 0 && context->RequestScratchBufferInArena(context, scratch, &index) != kTfLiteOk)) {
        return "the arena is too small for it";
    }
    tflnest_compact compact;
    tflnest_compact_window unused;
    if (index >= TFLNEST_COMPACT_MAX_SCRATCH ||
        !tflnest_compact_pack(&compact, Slides(stock) ? &SlidingOf(node)->window : &unused, &reading->call)) {
        return "its window is too large for this runtime";
    }
    compact.scratch = static_cast<uint16_t>(compact.scratch | (index + 1));
    const tflnest_chain chain = tflnest_chain_of(&reading->options);
    tflnest_compact_set_chain(&compact, &chain);
    tflnest_compact_run(&compact, &reading->options, static_cast<uint32_t>(position));
    SetCompact(node, stock, compact);
    Link(node, model);
    if (model != nullptr && reading->filter.available < reading->filter.count) {
        const uint32_t page = PageOf(reading->options, reading->filter.available);
        model->missing = static_cast<uint8_t>(model->missing | 1u << page);
        model->resident = static_cast<uint8_t>(model->resident & ~(1u << page));
    }
    return nullptr;
}

template <int kStock>
void *Init(TfLiteContext *context, const char *buffer, size_t length)
{
    if (budget.context != context || budget.is_preparing) { /* tensors begin to be allocated, maybe anew */
        budget = {context, false, 0, 0, 0, nullptr, nullptr};
        for (tflnest_tflm *model = open_models; model != nullptr; model = model->next) {
            model->operators = model->context == context ? nullptr : model->operators;
        }
    }
    tflnest_options options;
    if (buffer != nullptr && length <= UINT32_MAX &&
        tflnest_options_read(&options, kCustomCodes[kStock], buffer, static_cast<uint32_t>(length)) == nullptr) {
        budget.saved += Saved(options);
    }
    return nullptr;
}

template <int kStock>
TfLiteStatus Prepare(TfLiteContext *context, TfLiteNode *node)
{
    Reading reading;
    budget.is_preparing = true;
    tflnest_tflm *model = FindModel(context, node->custom_initial_data);
    const char *problem = Read(context, node, model, kCustomCodes[kStock], &reading);
    if (problem == nullptr) {
        problem = Keep(context, node, model, &reading);
    }
    if (problem != nullptr) {
        const int output = node->outputs != nullptr && node->outputs->size > 0 ? node->outputs->data[0] : -1;
        MicroPrintf("tflnest: %s with output tensor %d: %s", kCustomCodes[kStock], output, problem);
        return kTfLiteError;
    }
    return kTfLiteOk;
}

void Free(TfLiteContext *context, void *)
{
    for (tflnest_tflm *model = open_models; model != nullptr; model = model->next) {
        if (model->context == context) {
            model->operators = model->context = model->tensors = nullptr;
        }
    }
}

/* ------------------------------------------------------------------------------------------------ Invoke */

/* Run a call with scratch on the stack; of its own, so that no other call takes that. */
__attribute__((noinline)) void RunOnStack(const tflnest_call &call, const tflnest_filter &filter, const int8_t *input,
                                          int8_t *output)
{
    alignas(8) uint8_t scratch[TFLNEST_TFLM_STACK_SCRATCH > 0 ? TFLNEST_TFLM_STACK_SCRATCH : 1];
    tflnest_call_run(&call, &filter, input, output, scratch);
}

const TfLiteEvalTensor *ConstantAt(TfLiteContext *context, const TfLiteNode *node, uint32_t input)
{
    return context->GetEvalTensor(context, node->inputs->data[input]);
}

int32_t ChannelsOf(const tflnest_call &call)
{
    switch (call.stock) {
    case TFLNEST_STOCK_CONV_2D:
        return call.params.conv.output.channels;
    case TFLNEST_STOCK_DEPTHWISE_CONV_2D:
        return call.params.depthwise.output.channels;
    default:
        return call.params.fully_connected.outputs;
    }
}

/* Let a filter have the bias, the multipliers and the shifts of the own level that runs. */
void SetConstants(TfLiteContext *context, const TfLiteNode *node, const tflnest_compact &compact,
                  const tflnest_chain &chain, const tflnest_call &call, tflnest_filter *filter)
{
    const uint32_t inputs = static_cast<uint32_t>(node->inputs->size), weights = tflnest_compact_weights(&call);
    const tflnest_place bias = tflnest_compact_bias_place(&compact, chain.count, inputs);
    const tflnest_place set = tflnest_compact_set_place(&compact, chain.count, inputs);
    const TfLiteEvalTensor *scales = ConstantAt(context, node, set.input);
    uint32_t front = 0, start = set.has_bias != 0 ? 4 * static_cast<uint32_t>(ChannelsOf(call)) : 0;
    if (inputs == 1u + chain.count) { /* planes are in front of both */
        front = tflnest_chain_plane_bytes(&chain, bias.level, weights);
        start += tflnest_chain_plane_bytes(&chain, set.level, weights);
    }
    filter->bias = reinterpret_cast<const int32_t *>(ConstantAt(context, node, bias.input)->data.uint8 + front);
    tflnest_filter_set_scales(filter, scales->data.uint8 + start, BytesOf(scales, nullptr) - start);
}

template <int kStock>
TfLiteStatus Invoke(TfLiteContext *context, TfLiteNode *node)
{
    const tflnest_compact compact = CompactOf(node, kStock);
    const tflnest_compact_window *window = Slides(kStock) ? &SlidingOf(node)->window : nullptr;
    const TfLiteEvalTensor *input = context->GetEvalTensor(context, node->inputs->data[0]);
    const TfLiteEvalTensor *output = context->GetEvalTensor(context, node->outputs->data[0]);
    const tflnest_dimensions from = DimensionsOf(input->dims), to = DimensionsOf(output->dims);
    const uint32_t position = tflnest_compact_position(&compact);
    const tflnest_chain chain = tflnest_compact_chain(&compact);

    tflnest_call call;
    tflnest_compact_unpack(&compact, window, kStock, &from, &to, &call);
    const uint32_t weights = tflnest_compact_weights(&call);
    tflnest_field fields[TFLNEST_MAX_FIELDS];
    uint32_t count = 0;
    for (uint32_t i = 0; i <= position; i++) {
        const uint8_t *codes = ConstantAt(context, node, 1 + i)->data.uint8;
        count = tflnest_chain_add_fields(&chain, i, weights, codes, fields, count);
    }
    tflnest_filter filter = {};
    tflnest_filter_set_fields(&filter, fields, count, tflnest_chain_offset(&chain, position));
    SetConstants(context, node, compact, chain, call, &filter);
    const int scratch = (compact.scratch & TFLNEST_COMPACT_INDEX_MASK) - 1;
    if (scratch < 0 && tflnest_call_scratch(&call) > 0) {
        RunOnStack(call, filter, input->data.int8, output->data.int8);
    } else {
        void *memory = scratch < 0 ? nullptr : context->GetScratchBuffer(context, scratch);
        tflnest_call_run(&call, &filter, input->data.int8, output->data.int8, memory);
    }
    return kTfLiteOk;
}

/* ------------------------------------------------------------------------------------------ levels, pages */

/* The options of a prepared operator: they were sound then, and the file has not changed. */
tflnest_options OptionsOf(const TfLiteNode *node)
{
    tflnest_options options;
    for (const char *code : kCustomCodes) {
        if (tflnest_options_read(&options, code, node->custom_initial_data,
                                 static_cast<uint32_t>(node->custom_initial_data_size)) == nullptr &&
            static_cast<int>(tflnest_nested_inputs(&options)) == node->inputs->size) {
            break;
        }
    }
    return options;
}

tflnest_status CheckLevel(const tflnest_tflm *model, const tflnest_options &options, uint32_t position)
{
    if (options.activation_bits.values[position] != TFLNEST_MASTER_BITS) {
        MicroPrintf("tflnest: the level reads activations at fewer than 8 bits, which this runtime does not do");
        return TFLNEST_ERROR_LEVEL;
    }
    const uint32_t absent = PagesOf(options, position) & ~static_cast<uint32_t>(model->resident);
    if (absent != 0) {
        MicroPrintf("tflnest: the level needs pages that are not resident (one bit each: 0x%x)", absent);
        return TFLNEST_ERROR_RESIDENT;
    }
    return TFLNEST_OK;
}

/* Position of the own level that belongs to a level of the model. */
uint32_t LevelOf(const tflnest_options &options, uint32_t level)
{
    return static_cast<uint32_t>(options.model_levels.values[level]);
}

void Switch(TfLiteNode *node, const tflnest_options &options, uint32_t position)
{
    tflnest_compact compact = CompactOf(node, options.stock);
    tflnest_compact_run(&compact, &options, position);
    SetCompact(node, options.stock, compact);
}

/* Position of the own level that an operator runs at. */
uint32_t PositionOf(const TfLiteNode *node, const tflnest_options &options)
{
    const tflnest_compact compact = CompactOf(node, options.stock);
    return tflnest_compact_position(&compact);
}

/* Change of what the constants of a page point to. */
struct Move {
    uint32_t page;
    const uint8_t *image; /* NULL: the page in the file */
};

/* Where a constant lies in the file; SIZE_MAX where that is not known. */
size_t OffsetOf(const tflnest_tflm *model, uint32_t page, const uint8_t *data)
{
    const uint8_t *image = model->images[page];
    if (image == nullptr) {
        return LiesInside(model, data, 1) ? static_cast<size_t>(data - model->file) : SIZE_MAX;
    }
    const uintptr_t start = reinterpret_cast<uintptr_t>(image), at = reinterpret_cast<uintptr_t>(data);
    uint32_t offset = 0;
    if (at < start || at - start >= tflnest_directory_page_at(model->directory, page).size ||
        !tflnest_directory_offset(model->directory, page, static_cast<uint32_t>(at - start), &offset)) {
        return SIZE_MAX;
    }
    return offset;
}

/* Whether the constants of pages can move: those of one subgraph, whose tensors are known. */
bool CanMove(const tflnest_tflm *model)
{
    if (model->operators != nullptr && model->tensors == nullptr) {
        MicroPrintf("tflnest: there are nested operators in several subgraphs: their pages stay in the file");
        return false;
    }
    return true;
}

/* Let the constants of a page point to an image, or to the file. */
void MoveConstants(tflnest_tflm *model, const Move &move)
{
    auto *tensors = static_cast<TfLiteEvalTensor *>(model->tensors);
    for (const TfLiteNode *node = FirstOf(model); node != nullptr; node = Next(node)) {
        const TfLiteIntArray *inputs = node->inputs;
        for (int i = 1; i < inputs->size; i++) {
            TfLiteEvalTensor *tensor = &tensors[inputs->data[i]];
            const size_t offset = OffsetOf(model, move.page, tensor->data.uint8);
            uint32_t page = 0, place = 0;
            if (offset != SIZE_MAX &&
                tflnest_directory_find(model->directory, static_cast<uint32_t>(offset), &page, &place) &&
                page == move.page) {
                const uint8_t *data = move.image == nullptr ? model->file + offset : move.image + place;
                tensor->data.data = const_cast<uint8_t *>(data);
            }
        }
    }
    model->images[move.page] = move.image;
}

TfLiteNode *OperatorAt(const tflnest_tflm *model, uint32_t index)
{
    TfLiteNode *node = model == nullptr ? nullptr : FirstOf(model);
    while (node != nullptr && index-- > 0) {
        node = Next(node);
    }
    return node;
}

bool IsOpen(const tflnest_tflm *model)
{
    const tflnest_tflm *other = open_models;
    while (other != nullptr && other != model) {
        other = other->next;
    }
    return model != nullptr && other == model;
}

template <int kStock>
const TFLMRegistration *Registration()
{
    static TFLMRegistration registration = {};
    registration.init = Init<kStock>;
    registration.free = Free;
    registration.prepare = Prepare<kStock>;
    registration.invoke = Invoke<kStock>;
    return &registration;
}

}  // namespace

const TFLMRegistration *Register_CONV_2D()
{
    return Registration<TFLNEST_STOCK_CONV_2D>();
}

const TFLMRegistration *Register_DEPTHWISE_CONV_2D()
{
    return Registration<TFLNEST_STOCK_DEPTHWISE_CONV_2D>();
}

const TFLMRegistration *Register_FULLY_CONNECTED()
{
    return Registration<TFLNEST_STOCK_FULLY_CONNECTED>();
}

}  // namespace tflnest

/* --------------------------------------------------------------------------------------------- functions */

using namespace ::tflnest;

tflnest_status tflnest_tflm_open(tflnest_tflm *model, const void *file, size_t size)
{
    if (model == nullptr || file == nullptr || IsOpen(model)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    tflnest_directory directory;
    uint32_t bytes = 0;
    const auto *start = static_cast<const uint8_t *>(file);
    const uint8_t *metadata = tflnest_model_metadata(start, size, "TFLNEST", &bytes);
    const char *problem =
        metadata == nullptr ? "its file has no TFLNEST metadata" : tflnest_directory_read(&directory, metadata, bytes);
    if (problem == nullptr && !tflnest_directory_fits(metadata, size)) {
        problem = "its pages do not fit its file";
    }
    /* TFLM plans no memory for the controller's subgraph; see Keep. */
    if (problem == nullptr && tflnest_model_metadata(start, size, "TFLNEST_CONTROLLER", &bytes) != nullptr) {
        problem = "it has a controller, which this runtime does not follow: leave it out (tflnest.controller.detach)";
    }
    if (problem != nullptr) {
        MicroPrintf("tflnest: the model cannot be opened: %s", problem);
        return TFLNEST_ERROR_SIZE;
    }
    *model = {};
    model->file = start;
    model->size = size;
    model->directory = metadata;
    model->level_count = static_cast<uint8_t>(directory.count);
    memcpy(model->levels, directory.levels, sizeof model->levels);
    model->resident = static_cast<uint8_t>((1u << directory.count) - 1u);
    model->next = open_models;
    open_models = model;
    return TFLNEST_OK;
}

void tflnest_tflm_close(tflnest_tflm *model)
{
    tflnest_tflm **link = &open_models;
    while (*link != nullptr && *link != model) {
        link = &(*link)->next;
    }
    if (*link != nullptr) {
        *link = model->next;
    }
}

tflnest_status tflnest_tflm_set_level(tflnest_tflm *model, uint32_t level)
{
    if (!IsOpen(model) || model->operators == nullptr) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    uint32_t index = 0;
    while (index < model->level_count && model->levels[index] != level) {
        index++;
    }
    if (index == model->level_count) {
        MicroPrintf("tflnest: the model has no level of %d bits", static_cast<int>(level));
        return TFLNEST_ERROR_LEVEL;
    }
    for (const TfLiteNode *node = FirstOf(model); node != nullptr; node = Next(node)) {
        const tflnest_options options = OptionsOf(node);
        const tflnest_status status = CheckLevel(model, options, LevelOf(options, index));
        if (status != TFLNEST_OK) {
            return status;
        }
    }
    for (TfLiteNode *node = FirstOf(model); node != nullptr; node = Next(node)) {
        const tflnest_options options = OptionsOf(node);
        Switch(node, options, LevelOf(options, index));
    }
    return TFLNEST_OK;
}

tflnest_status tflnest_tflm_set_operator_level(tflnest_tflm *model, uint32_t index, uint32_t level)
{
    TfLiteNode *node = IsOpen(model) ? OperatorAt(model, index) : nullptr;
    if (node == nullptr) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const tflnest_options options = OptionsOf(node);
    uint32_t position = 0;
    while (position < options.levels.count && options.levels.values[position] != static_cast<int32_t>(level)) {
        position++;
    }
    if (position == options.levels.count) {
        MicroPrintf("tflnest: operator %d has no level of %d bits", static_cast<int>(index), static_cast<int>(level));
        return TFLNEST_ERROR_LEVEL;
    }
    const tflnest_status status = CheckLevel(model, options, position);
    if (status == TFLNEST_OK) {
        Switch(node, options, position);
    }
    return status;
}

uint32_t tflnest_tflm_operators(const tflnest_tflm *model)
{
    uint32_t count = 0;
    for (const TfLiteNode *node = OperatorAt(model, 0); node != nullptr; node = Next(node)) {
        count++;
    }
    return count;
}

uint32_t tflnest_tflm_operator_level(const tflnest_tflm *model, uint32_t index)
{
    const TfLiteNode *node = OperatorAt(model, index);
    if (node == nullptr) {
        return 0;
    }
    const tflnest_options options = OptionsOf(node);
    return static_cast<uint32_t>(options.levels.values[PositionOf(node, options)]);
}

uint32_t tflnest_tflm_resident(const tflnest_tflm *model)
{
    return model == nullptr ? 0 : model->resident;
}

tflnest_status tflnest_tflm_page_out(tflnest_tflm *model, uint32_t page)
{
    if (!IsOpen(model) || page >= model->level_count) {
        return TFLNEST_ERROR_PAGE;
    }
    if ((model->resident >> page & 1u) == 0) {
        return TFLNEST_ERROR_RESIDENT;
    }
    for (const TfLiteNode *node = FirstOf(model); node != nullptr; node = Next(node)) {
        const tflnest_options options = OptionsOf(node);
        if ((PagesOf(options, PositionOf(node, options)) >> page & 1u) != 0) {
            MicroPrintf("tflnest: page %d is in use: switch to a lower level first", static_cast<int>(page));
            return TFLNEST_ERROR_IN_USE;
        }
    }
    if (!CanMove(model)) {
        return TFLNEST_ERROR_PAGE;
    }
    MoveConstants(model, {page, nullptr});
    model->resident = static_cast<uint8_t>(model->resident & ~(1u << page));
    return TFLNEST_OK;
}

tflnest_status tflnest_tflm_page_in(tflnest_tflm *model, uint32_t page, const void *image, size_t size)
{
    if (!IsOpen(model) || page >= model->level_count || (model->missing >> page & 1u) != 0) {
        return TFLNEST_ERROR_PAGE;
    }
    if (model->operators == nullptr || reinterpret_cast<uintptr_t>(image) % kImageAlignment != 0) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if ((model->resident >> page & 1u) != 0) {
        return TFLNEST_ERROR_IN_USE;
    }
    const tflnest_directory_page row = tflnest_directory_page_at(model->directory, page);
    if (image != nullptr && size != row.size) {
        MicroPrintf("tflnest: page %d has %d bytes, not %d", static_cast<int>(page), static_cast<int>(row.size),
                    static_cast<int>(size));
        return TFLNEST_ERROR_SIZE;
    }
    if (image != nullptr && tflnest_crc32(0, static_cast<const uint8_t *>(image), size) != row.crc32) {
        MicroPrintf("tflnest: page %d is damaged: its CRC-32 is wrong", static_cast<int>(page));
        return TFLNEST_ERROR_CRC;
    }
    MoveConstants(model, {page, static_cast<const uint8_t *>(image)});
    model->resident = static_cast<uint8_t>(model->resident | 1u << page);
    return TFLNEST_OK;
}
