#include "tflnest_tflm_decode.h"

#include <string.h>

#include "tensorflow/lite/micro/micro_log.h"
#include "tflnest/tflnest_crc32.h"

extern "C" {
#include "tflnest_decode_format.h"
#include "tflnest_model_file.h"
#include "tflnest_plane_encoding.h"
}

namespace tflnest {
namespace decoding {
namespace {

constexpr uintptr_t kPartAlignment = 4, kImageAlignment = 8;
static_assert(TFLNEST_DECODED_MAX_PAGES == TFLNEST_MAX_LEVELS, "a page for each level");

/* The files that are open. */
tflnest_decoded *open_files = nullptr;

/* -------------------------------------------------------------------------------------------------- file */

uint32_t ReadWord(const uint8_t *bytes)
{
    uint32_t word = 0;
    memcpy(&word, bytes, sizeof word);
    return word;
}

uint32_t ReadHalf(const uint8_t *bytes)
{
    uint16_t half = 0;
    memcpy(&half, bytes, sizeof half);
    return half;
}

/* Row of a page in the table. */
const uint8_t *PageRow(const tflnest_decoded *file, uint32_t page)
{
    return file->pages + TFLNEST_DECODE_PAGES_BYTES + page * TFLNEST_DECODE_PAGE_BYTES;
}

uint32_t PageBytes(const tflnest_decoded *file, uint32_t page)
{
    return ReadWord(PageRow(file, page) + TFLNEST_DECODE_PAGE_AT_SIZE);
}

uint32_t LevelBits(const tflnest_decoded *file, uint32_t level)
{
    return PageRow(file, level)[TFLNEST_DECODE_PAGE_AT_BITS];
}

bool LiesInside(const tflnest_decoded *file, const void *data, size_t bytes)
{
    const uintptr_t start = reinterpret_cast<uintptr_t>(file->file), at = reinterpret_cast<uintptr_t>(data);
    return at >= start && at - start <= file->size && bytes <= file->size - (at - start);
}

/* Whether a constant has so many bytes. Of a file that is not open, the length in front of it tells: it is a vector of a
 * flatbuffer. */
bool IsWhole(const tflnest_decoded *file, const void *data, size_t bytes)
{
    if (file != nullptr) {
        return LiesInside(file, data, bytes);
    }
    return bytes <= ReadWord(static_cast<const uint8_t *>(data) - sizeof(uint32_t));
}

/* The open file that a constant lies in, for this interpreter. */
tflnest_decoded *FindFile(const void *context, const void *data)
{
    for (tflnest_decoded *file = open_files; file != nullptr; file = file->next) {
        if ((file->first == nullptr || file->context == context) && LiesInside(file, data, 1)) {
            return file;
        }
    }
    return nullptr;
}

bool IsOpen(const tflnest_decoded *file)
{
    const tflnest_decoded *other = open_files;
    while (other != nullptr && other != file) {
        other = other->next;
    }
    return file != nullptr && other == file;
}

/* Check the table of levels and pages. */
const char *CheckPages(const uint8_t *pages, uint32_t bytes)
{
    if (pages == nullptr) {
        return "it was not exported for tflm-decode";
    }
    if (bytes < TFLNEST_DECODE_PAGES_BYTES ||
        memcmp(pages, TFLNEST_DECODE_PAGES_MAGIC, sizeof TFLNEST_DECODE_PAGES_MAGIC) != 0) {
        return "its table of pages makes no sense";
    }
    const uint32_t count = ReadHalf(pages + TFLNEST_DECODE_PAGES_AT_LEVEL_COUNT);
    if (ReadHalf(pages + TFLNEST_DECODE_PAGES_AT_VERSION) != TFLNEST_DECODE_PAGES_VERSION ||
        ReadHalf(pages + TFLNEST_DECODE_PAGES_AT_HEADER_SIZE) != TFLNEST_DECODE_PAGES_BYTES ||
        ReadHalf(pages + TFLNEST_DECODE_PAGES_AT_RESERVED) != 0) {
        return "its table of pages has another version than this tflnest reads";
    }
    if (count < 1 || count > TFLNEST_MAX_LEVELS ||
        bytes != TFLNEST_DECODE_PAGES_BYTES + count * TFLNEST_DECODE_PAGE_BYTES) {
        return "its table of pages makes no sense";
    }
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t own = pages[TFLNEST_DECODE_PAGES_BYTES + i * TFLNEST_DECODE_PAGE_BYTES];
        if (own <= bits || own > TFLNEST_MASTER_BITS) {
            return "its levels do not increase";
        }
        bits = own;
    }
    return nullptr;
}

/* ---------------------------------------------------------------------------------------------- decoders */

Decoder *FirstOf(const tflnest_decoded *file)
{
    return static_cast<Decoder *>(file->first);
}

/* Ancillary data that was checked. */
tflnest_plane_encoding EncodingOf(const Decoder &decoder)
{
    const uint32_t levels = decoder.ancillary[TFLNEST_DECODE_AT_LEVEL_COUNT];
    tflnest_plane_encoding encoding;
    tflnest_plane_encoding_read(&encoding, decoder.ancillary,
                                TFLNEST_DECODE_BYTES + levels * TFLNEST_DECODE_ROW_BYTES);
    return encoding;
}

tflnest_parts PartsOf(const Decoder &decoder)
{
    return {decoder.elements, decoder.is_bias ? 1 : 0};
}

/* The first part that an own level reads; the last one is its own. */
uint32_t FirstPart(const Decoder &decoder, uint32_t position)
{
    return decoder.is_bias ? position : 0;
}

/* The pages that an own level reads, one bit each. */
uint32_t PagesOf(const Decoder &decoder, const tflnest_plane_encoding &encoding, uint32_t position)
{
    const tflnest_parts parts = PartsOf(decoder);
    uint32_t pages = 0;
    for (uint32_t i = FirstPart(decoder, position); i <= position; i++) {
        pages |= 1u << tflnest_plane_encoding_place(&encoding, &parts, i).page;
    }
    return pages;
}

uint32_t AbsentOf(const Decoder &decoder, const tflnest_plane_encoding &encoding, uint32_t position)
{
    return PagesOf(decoder, encoding, position) & ~static_cast<uint32_t>(decoder.model->resident);
}

/* Whether every part lies where the pages of the file have room for it. */
const char *CheckPlaces(const Decoder &decoder, const tflnest_plane_encoding &encoding)
{
    const tflnest_parts parts = PartsOf(decoder);
    if (encoding.model_level_count != decoder.model->level_count) {
        return "its ancillary data has another number of levels than its file";
    }
    for (uint32_t i = 0; i < encoding.chain.count; i++) {
        const tflnest_part_place place = tflnest_plane_encoding_place(&encoding, &parts, i);
        const uint64_t bytes = tflnest_plane_encoding_bytes(&encoding, &parts, i);
        if (place.page >= decoder.model->level_count || place.offset % kPartAlignment != 0 ||
            place.offset + bytes > PageBytes(decoder.model, place.page)) {
            return "its ancillary data leads beyond the pages of its file";
        }
    }
    return nullptr;
}

/* Choose the level of a file that is open: the one that the application wants, or the highest one. */
const char *ChooseLevel(Decoder *decoder, const tflnest_plane_encoding &encoding)
{
    const tflnest_decoded *file = decoder->model;
    if (file->level < file->level_count) {
        decoder->position = encoding.model_levels[file->level];
        return AbsentOf(*decoder, encoding, decoder->position) == 0 ? nullptr
                                                                    : "its level needs pages that are not resident";
    }
    uint32_t position = encoding.chain.count;
    while (position > 0 && AbsentOf(*decoder, encoding, position - 1) != 0) {
        position--;
    }
    decoder->position = static_cast<uint8_t>(position - 1);
    return position > 0 ? nullptr : "no level has all its pages";
}

/* Note the pages of parts that the file does not have. */
void NoteMissing(const Decoder &decoder, const tflnest_plane_encoding &encoding, uint32_t available)
{
    const tflnest_parts parts = PartsOf(decoder);
    for (uint32_t i = available; i < encoding.chain.count; i++) {
        const auto bit = static_cast<uint8_t>(1u << tflnest_plane_encoding_place(&encoding, &parts, i).page);
        decoder.model->missing = static_cast<uint8_t>(decoder.model->missing | bit);
        if (decoder.model->images[tflnest_plane_encoding_place(&encoding, &parts, i).page] == nullptr) {
            decoder.model->resident = static_cast<uint8_t>(decoder.model->resident & ~bit);
        }
    }
}

/* Whether a decoder is the first one since tensors are being allocated, maybe anew: nothing ran since the others were set
 * up, or one of them lies where it lies, or reads what it reads. */
bool IsFirst(const Decoder &decoder)
{
    const Decoder *other = decoder.model->is_ready ? nullptr : FirstOf(decoder.model);
    while (other != nullptr && other != &decoder &&
           (other->ancillary != decoder.ancillary || other->is_bias != decoder.is_bias)) {
        if (other->next == nullptr) {
            return false;
        }
        other = other->next;
    }
    return true;
}

/* Put a decoder at the end of the list. */
void Link(Decoder *decoder, const void *context)
{
    tflnest_decoded *file = decoder->model;
    if (IsFirst(*decoder)) {
        file->first = decoder;
    } else {
        static_cast<Decoder *>(file->last)->next = decoder;
    }
    file->last = decoder;
    file->context = context;
    file->is_ready = 0;
}

/* Check types and sizes; fills what the decoder keeps of them. */
const char *ReadTensors(Decoder *decoder, const TfLiteTensor &input, const TfLiteTensor &ancillary,
                        const TfLiteTensor &output, tflnest_plane_encoding *encoding, uint32_t *available)
{
    if (input.type != kTfLiteUInt8 || ancillary.type != kTfLiteUInt8 || input.data.data == nullptr ||
        ancillary.data.data == nullptr) {
        return "it reads what is no constant of bytes";
    }
    decoder->is_bias = output.type == kTfLiteInt32;
    const size_t width = decoder->is_bias ? sizeof(int32_t) : 1;
    if ((output.type != kTfLiteInt8 && output.type != kTfLiteInt32) || output.allocation_type == kTfLiteMmapRo ||
        output.bytes == 0 || output.bytes % width != 0 || output.bytes > INT32_MAX) {
        return "what it writes is no int8 filter and no int32 bias";
    }
    if (!IsWhole(decoder->model, input.data.data, input.bytes) ||
        !IsWhole(decoder->model, ancillary.data.data, ancillary.bytes)) {
        return "one of its constants is larger than its buffer in the file";
    }
    const char *problem = tflnest_plane_encoding_read(encoding, ancillary.data.data, ancillary.bytes);
    if (problem != nullptr) {
        return problem;
    }
    decoder->ancillary = ancillary.data.uint8;
    decoder->elements = static_cast<uint32_t>(output.bytes / width);
    const tflnest_parts parts = PartsOf(*decoder);
    *available = tflnest_plane_encoding_count(encoding, &parts, input.bytes);
    if (*available == 0) {
        return "its encoded data has another size than its levels and output ask for";
    }
    return reinterpret_cast<uintptr_t>(input.data.data) % kPartAlignment == 0 ? nullptr
                                                                               : "its encoded data is not aligned";
}

/* ------------------------------------------------------------------------------------------ levels, pages */

/* The decoder of an operator's filter. */
Decoder *OperatorAt(const tflnest_decoded *file, uint32_t index)
{
    Decoder *decoder = file == nullptr ? nullptr : FirstOf(file);
    while (decoder != nullptr && (decoder->is_bias || index-- > 0)) {
        decoder = decoder->next;
    }
    return decoder;
}

/* The decoder of the same operator's bias; nullptr where that is no other at any level. */
Decoder *BiasOf(const Decoder *decoder)
{
    Decoder *next = decoder->next;
    return next != nullptr && next->is_bias && next->ancillary == decoder->ancillary ? next : nullptr;
}

tflnest_status CheckResident(const Decoder &decoder, const tflnest_plane_encoding &encoding, uint32_t position)
{
    const uint32_t absent = AbsentOf(decoder, encoding, position);
    if (absent == 0) {
        return TFLNEST_OK;
    }
    MicroPrintf("tflnest: the level needs pages that are not resident (one bit each: 0x%x)", absent);
    return TFLNEST_ERROR_RESIDENT;
}

/* Whether the level that was chosen, or a decoder, reads a page. */
bool IsInUse(const tflnest_decoded *file, uint32_t page)
{
    if (file->first == nullptr) {
        return page == 0 || (file->level < file->level_count && page <= file->level);
    }
    for (const Decoder *decoder = FirstOf(file); decoder != nullptr; decoder = decoder->next) {
        if ((PagesOf(*decoder, EncodingOf(*decoder), decoder->position) >> page & 1u) != 0) {
            return true;
        }
    }
    return page == 0;
}

}  // namespace

TfLiteStatus SetUp(Decoder *decoder, const TfLiteContext *context, const TfLiteTensor &input,
                   const TfLiteTensor &ancillary, const TfLiteTensor &output)
{
    tflnest_plane_encoding encoding;
    uint32_t available = 0;
    *decoder = {};
    decoder->model = FindFile(context, ancillary.data.data);
    const char *problem = ReadTensors(decoder, input, ancillary, output, &encoding, &available);
    if (problem == nullptr && decoder->model == nullptr) {
        decoder->position = static_cast<uint8_t>(available - 1);
    } else if (problem == nullptr) {
        problem = CheckPlaces(*decoder, encoding);
        if (problem == nullptr) {
            NoteMissing(*decoder, encoding, available);
            problem = ChooseLevel(decoder, encoding);
        }
        if (problem == nullptr) {
            Link(decoder, context);
        }
    }
    if (problem != nullptr) {
        MicroPrintf("tflnest: TFLM_DECODE with an output of %d bytes: %s", static_cast<int>(output.bytes), problem);
        return kTfLiteError;
    }
    return kTfLiteOk;
}

TfLiteStatus Decode(const Decoder &decoder, const TfLiteEvalTensor &input, const TfLiteEvalTensor &output)
{
    const tflnest_plane_encoding encoding = EncodingOf(decoder);
    const tflnest_parts parts = PartsOf(decoder);
    const uint8_t *found[TFLNEST_MAX_LEVELS] = {};
    const uint8_t *next = input.data.uint8;
    if (output.data.data == nullptr) {
        return kTfLiteError;
    }
    if (decoder.model != nullptr) {
        decoder.model->is_ready = 1;
    }
    for (uint32_t i = 0; i <= decoder.position; i++) {
        const tflnest_part_place place = tflnest_plane_encoding_place(&encoding, &parts, i);
        const uint8_t *image = decoder.model == nullptr ? nullptr : decoder.model->images[place.page];
        found[i] = image == nullptr ? next : image + place.offset;
        next += tflnest_plane_encoding_bytes(&encoding, &parts, i);
    }
    if (decoder.is_bias) {
        memcpy(output.data.data, found[decoder.position], sizeof(int32_t) * decoder.elements);
    } else {
        tflnest_plane_encoding_decode(&encoding, decoder.position, decoder.elements, found, output.data.int8);
    }
    return kTfLiteOk;
}

}  // namespace decoding
}  // namespace tflnest

/* --------------------------------------------------------------------------------------------- functions */

using namespace ::tflnest::decoding;

tflnest_status tflnest_decoded_open(tflnest_decoded *decoded, const void *file, size_t size)
{
    if (decoded == nullptr || file == nullptr || IsOpen(decoded)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    uint32_t bytes = 0;
    const auto *start = static_cast<const uint8_t *>(file);
    const uint8_t *pages = tflnest_model_metadata(start, size, TFLNEST_DECODE_METADATA, &bytes);
    const char *problem = CheckPages(pages, bytes);
    if (problem != nullptr) {
        MicroPrintf("tflnest: the file cannot be opened: %s", problem);
        return TFLNEST_ERROR_SIZE;
    }
    *decoded = {};
    decoded->file = start;
    decoded->size = size;
    decoded->pages = pages;
    decoded->level_count = pages[TFLNEST_DECODE_PAGES_AT_LEVEL_COUNT];
    decoded->level = decoded->level_count;
    decoded->resident = static_cast<uint8_t>((1u << decoded->level_count) - 1u);
    decoded->next = open_files;
    open_files = decoded;
    return TFLNEST_OK;
}

void tflnest_decoded_close(tflnest_decoded *decoded)
{
    tflnest_decoded **link = &open_files;
    while (*link != nullptr && *link != decoded) {
        link = &(*link)->next;
    }
    if (*link != nullptr) {
        *link = decoded->next;
        decoded->first = decoded->last = nullptr;
    }
}

tflnest_status tflnest_decoded_set_level(tflnest_decoded *decoded, uint32_t level)
{
    if (!IsOpen(decoded)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    uint32_t index = 0;
    while (index < decoded->level_count && LevelBits(decoded, index) != level) {
        index++;
    }
    if (index == decoded->level_count) {
        MicroPrintf("tflnest: the model has no level of %d bits", static_cast<int>(level));
        return TFLNEST_ERROR_LEVEL;
    }
    for (const Decoder *decoder = FirstOf(decoded); decoder != nullptr; decoder = decoder->next) {
        const tflnest_plane_encoding encoding = EncodingOf(*decoder);
        const tflnest_status status = CheckResident(*decoder, encoding, encoding.model_levels[index]);
        if (status != TFLNEST_OK) {
            return status;
        }
    }
    for (Decoder *decoder = FirstOf(decoded); decoder != nullptr; decoder = decoder->next) {
        decoder->position = EncodingOf(*decoder).model_levels[index];
    }
    decoded->level = static_cast<uint8_t>(index);
    decoded->is_ready = 1;
    return TFLNEST_OK;
}

tflnest_status tflnest_decoded_set_operator_level(tflnest_decoded *decoded, uint32_t index, uint32_t level)
{
    Decoder *decoder = IsOpen(decoded) ? OperatorAt(decoded, index) : nullptr;
    if (decoder == nullptr) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const tflnest_plane_encoding encoding = EncodingOf(*decoder);
    uint32_t position = 0;
    while (position < encoding.chain.count && encoding.chain.bits[position] != level) {
        position++;
    }
    if (position == encoding.chain.count) {
        MicroPrintf("tflnest: operator %d has no level of %d bits", static_cast<int>(index), static_cast<int>(level));
        return TFLNEST_ERROR_LEVEL;
    }
    Decoder *bias = BiasOf(decoder);
    tflnest_status status = CheckResident(*decoder, encoding, position);
    if (status == TFLNEST_OK && bias != nullptr) {
        status = CheckResident(*bias, encoding, position);
    }
    if (status == TFLNEST_OK) {
        decoder->position = static_cast<uint8_t>(position);
        if (bias != nullptr) {
            bias->position = static_cast<uint8_t>(position);
        }
    }
    return status;
}

uint32_t tflnest_decoded_operators(const tflnest_decoded *decoded)
{
    uint32_t count = 0;
    while (OperatorAt(decoded, count) != nullptr) {
        count++;
    }
    return count;
}

uint32_t tflnest_decoded_operator_level(const tflnest_decoded *decoded, uint32_t index)
{
    const Decoder *decoder = OperatorAt(decoded, index);
    return decoder == nullptr ? 0 : EncodingOf(*decoder).chain.bits[decoder->position];
}

uint32_t tflnest_decoded_resident(const tflnest_decoded *decoded)
{
    return decoded == nullptr ? 0 : decoded->resident;
}

tflnest_status tflnest_decoded_page_out(tflnest_decoded *decoded, uint32_t page)
{
    if (!IsOpen(decoded) || page >= decoded->level_count) {
        return TFLNEST_ERROR_PAGE;
    }
    if ((decoded->resident >> page & 1u) == 0) {
        return TFLNEST_ERROR_RESIDENT;
    }
    if (IsInUse(decoded, page)) {
        MicroPrintf("tflnest: page %d is in use: switch to a lower level first", static_cast<int>(page));
        return TFLNEST_ERROR_IN_USE;
    }
    decoded->images[page] = nullptr;
    decoded->resident = static_cast<uint8_t>(decoded->resident & ~(1u << page));
    return TFLNEST_OK;
}

tflnest_status tflnest_decoded_page_in(tflnest_decoded *decoded, uint32_t page, const void *image, size_t size)
{
    if (!IsOpen(decoded) || reinterpret_cast<uintptr_t>(image) % kImageAlignment != 0) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if (page >= decoded->level_count || (image == nullptr && (decoded->missing >> page & 1u) != 0)) {
        return TFLNEST_ERROR_PAGE;
    }
    if ((decoded->resident >> page & 1u) != 0) {
        return TFLNEST_ERROR_IN_USE;
    }
    if (image != nullptr && size != PageBytes(decoded, page)) {
        MicroPrintf("tflnest: page %d has %d bytes, not %d", static_cast<int>(page),
                    static_cast<int>(PageBytes(decoded, page)), static_cast<int>(size));
        return TFLNEST_ERROR_SIZE;
    }
    const uint32_t crc = ReadWord(PageRow(decoded, page) + TFLNEST_DECODE_PAGE_AT_CRC32);
    if (image != nullptr && tflnest_crc32(0, static_cast<const uint8_t *>(image), size) != crc) {
        MicroPrintf("tflnest: page %d is damaged: its CRC-32 is wrong", static_cast<int>(page));
        return TFLNEST_ERROR_CRC;
    }
    decoded->images[page] = static_cast<const uint8_t *>(image);
    decoded->resident = static_cast<uint8_t>(decoded->resident | 1u << page);
    return TFLNEST_OK;
}
