#include "tflnest/tflnest_protocol.h"

#include <string.h>

#include "tflnest/tflnest_crc32.h"

/* What a handler works on. Request and reply share the frame buffer: a handler reads before it writes. */
typedef struct {
    const uint8_t *payload; /* of the request */
    uint8_t *reply;         /* payload of the reply */
    uint32_t count; /* bytes of the request's payload, then of the reply's */
    uint32_t limit; /* most bytes of a reply's payload */
    uint32_t first; /* numbers that go with an error */
    uint32_t second;
    uint16_t session;
    uint16_t sequence;
    uint8_t page;
    uint16_t code; /* TFLNEST_ERROR_CODE_..., or 0 */
} exchange;

/* ------------------------------------------------------------------------------------------- numbers */

static uint32_t get16(const uint8_t *from)
{
    return (uint32_t)from[0] | ((uint32_t)from[1] << 8);
}

static uint32_t get32(const uint8_t *from)
{
    return get16(from) | (get16(from + 2) << 16);
}

static void put16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *to, uint32_t value)
{
    put16(to, value);
    put16(to + 2, value >> 16);
}

/* ------------------------------------------------------------------------------------------- sending */

static void emit(tflnest_protocol *protocol, const uint8_t *bytes, uint32_t count)
{
    protocol->statistics.sent_bytes += count;
    protocol->config->send(protocol->config->context, bytes, count);
}

/* Send the frame buffer: byte stuffing, block by block, and the zero that ends a frame. */
static void emit_frame(tflnest_protocol *protocol, uint32_t length)
{
    const uint8_t *frame = protocol->config->frame;
    const uint8_t end = 0;
    uint32_t start = 0;
    for (;;) {
        uint32_t run = 0;
        while (run < 254u && start + run < length && frame[start + run] != 0u) {
            run++;
        }
        const uint8_t code = (uint8_t)(run + 1u);
        emit(protocol, &code, 1);
        if (run > 0u) {
            emit(protocol, frame + start, run);
        }
        start += run;
        if (start == length) {
            break;
        }
        if (run < 254u) {
            start++; /* the zero that the block stands for */
        }
    }
    emit(protocol, &end, 1);
}

static void send_message(tflnest_protocol *protocol, uint32_t type, const exchange *answer)
{
    uint8_t *frame = protocol->config->frame;
    const uint32_t length = TFLNEST_HEADER_BYTES + answer->count;
    frame[TFLNEST_HEADER_AT_VERSION] = TFLNEST_PROTOCOL_VERSION;
    frame[TFLNEST_HEADER_AT_HEADER_SIZE] = TFLNEST_HEADER_BYTES;
    frame[TFLNEST_HEADER_AT_TYPE] = (uint8_t)(type | TFLNEST_PROTOCOL_REPLY_BIT);
    frame[TFLNEST_HEADER_AT_PAGE] = answer->page;
    put16(frame + TFLNEST_HEADER_AT_SESSION, answer->session);
    put16(frame + TFLNEST_HEADER_AT_SEQUENCE, answer->sequence);
    put32(frame + length, tflnest_crc32(0, frame, length));
    emit_frame(protocol, length + TFLNEST_PROTOCOL_CRC_BYTES);
}

static void send_error(tflnest_protocol *protocol, uint32_t request, exchange *answer)
{
    uint8_t *payload = protocol->config->frame + TFLNEST_HEADER_BYTES;
    protocol->statistics.errors++;
    memset(payload, 0, TFLNEST_ERROR_REPLY_BYTES);
    put16(payload + TFLNEST_ERROR_REPLY_AT_CODE, answer->code);
    payload[TFLNEST_ERROR_REPLY_AT_REQUEST] = (uint8_t)request;
    put32(payload + TFLNEST_ERROR_REPLY_AT_FIRST, answer->first);
    put32(payload + TFLNEST_ERROR_REPLY_AT_SECOND, answer->second);
    answer->count = TFLNEST_ERROR_REPLY_BYTES;
    send_message(protocol, TFLNEST_MESSAGE_ERROR, answer);
}

static void fail(exchange *answer, uint32_t code, uint32_t first, uint32_t second)
{
    answer->code = (uint16_t)code;
    answer->first = first;
    answer->second = second;
}

static void fail_status(exchange *answer, tflnest_status status, uint32_t first, uint32_t second)
{
    if (status != TFLNEST_OK) {
        fail(answer, (uint32_t)(-(int32_t)status), first, second);
    }
}

/* A reply of one number. */
static void answer32(exchange *answer, uint32_t value)
{
    put32(answer->reply, value);
    answer->count = 4;
}

/* -------------------------------------------------------------------------------------------- tables */

static void fill_hello(const tflnest_protocol_config *config, uint8_t *to)
{
    put16(to + TFLNEST_HELLO_REPLY_AT_VERSION, TFLNEST_PROTOCOL_VERSION);
    put32(to + TFLNEST_HELLO_REPLY_AT_RUNTIME_VERSION, TFLNEST_PROTOCOL_RUNTIME_VERSION);
    put32(to + TFLNEST_HELLO_REPLY_AT_FRAME_BYTES, config->frame_bytes);
    put32(to + TFLNEST_HELLO_REPLY_AT_WINDOW_BYTES, config->window_bytes);
    put32(to + TFLNEST_HELLO_REPLY_AT_STALL_MILLISECONDS, config->stall_milliseconds);
}

static uint32_t tensor_bytes(const tflnest_protocol_tensor *tensors, uint32_t count)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += tensors[i].size;
    }
    return total;
}

static void fill_model(const tflnest_protocol_model *model, uint8_t *to)
{
    memcpy(to + TFLNEST_MODEL_ROW_AT_IDENTITY, model->identity, 32);
    to[TFLNEST_MODEL_ROW_AT_LEVEL_COUNT] = model->level_count;
    to[TFLNEST_MODEL_ROW_AT_PAGE_COUNT] = model->page_count;
    put16(to + TFLNEST_MODEL_ROW_AT_OPERATOR_COUNT, model->operator_count);
    put16(to + TFLNEST_MODEL_ROW_AT_INPUT_COUNT, model->input_count);
    put16(to + TFLNEST_MODEL_ROW_AT_OUTPUT_COUNT, model->output_count);
    put32(to + TFLNEST_MODEL_ROW_AT_INPUT_BYTES, tensor_bytes(model->inputs, model->input_count));
    put32(to + TFLNEST_MODEL_ROW_AT_OUTPUT_BYTES, tensor_bytes(model->outputs, model->output_count));
    memcpy(to + TFLNEST_MODEL_ROW_AT_LEVELS, model->levels, model->level_count);
}

static void fill_state(const tflnest_protocol *protocol, uint8_t *to)
{
    const tflnest_protocol_model *model = protocol->config->model;
    put32(to + TFLNEST_STATE_ROW_AT_RESIDENT, model->resident(model->context));
    put32(to + TFLNEST_STATE_ROW_AT_FREE_SRAM, model->free_sram(model->context));
    to[TFLNEST_STATE_ROW_AT_LEVEL] = (uint8_t)model->level(model->context);
    to[TFLNEST_STATE_ROW_AT_TRANSFER_PAGE] = (uint8_t)protocol->transfer->page;
    put32(to + TFLNEST_STATE_ROW_AT_TRANSFER_OFFSET, protocol->transfer->offset);
    put32(to + TFLNEST_STATE_ROW_AT_TRANSFER_CRC32, protocol->transfer->crc32);
    put32(to + TFLNEST_STATE_ROW_AT_INPUT_OFFSET, protocol->input_offset);
    put32(to + TFLNEST_STATE_ROW_AT_RUN, protocol->run);
}

static void fill_page(const tflnest_protocol_model *model, uint32_t row, uint8_t *to)
{
    const tflnest_protocol_page *page = &model->pages[row];
    to[TFLNEST_PAGE_ROW_AT_LEVEL] = page->level;
    to[TFLNEST_PAGE_ROW_AT_PLACE] = page->place;
    to[TFLNEST_PAGE_ROW_AT_RESIDENT] = (uint8_t)((model->resident(model->context) >> row) & 1u);
    put32(to + TFLNEST_PAGE_ROW_AT_SIZE, page->size);
    put32(to + TFLNEST_PAGE_ROW_AT_CRC32, page->crc32);
    put32(to + TFLNEST_PAGE_ROW_AT_CAPACITY, page->capacity);
}

static void fill_tensor(const tflnest_protocol_tensor *tensor, uint8_t *to)
{
    put32(to + TFLNEST_TENSOR_ROW_AT_SIZE, tensor->size);
    to[TFLNEST_TENSOR_ROW_AT_TYPE] = tensor->type;
    to[TFLNEST_TENSOR_ROW_AT_RANK] = tensor->rank;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        put32(to + TFLNEST_TENSOR_ROW_AT_SHAPE + 4u * i, (uint32_t)tensor->shape[i]);
    }
    put32(to + TFLNEST_TENSOR_ROW_AT_SCALE, tensor->scale);
    put32(to + TFLNEST_TENSOR_ROW_AT_ZERO_POINT, (uint32_t)tensor->zero_point);
}

static void fill_operator(const tflnest_protocol_model *model, uint32_t row, uint8_t *to)
{
    const tflnest_protocol_operator *item = &model->operators[row];
    put16(to + TFLNEST_OPERATOR_ROW_AT_OPERATOR, item->index);
    to[TFLNEST_OPERATOR_ROW_AT_LEVEL] = (uint8_t)model->operator_level(model->context, row);
    to[TFLNEST_OPERATOR_ROW_AT_LEVEL_COUNT] = item->level_count;
    memcpy(to + TFLNEST_OPERATOR_ROW_AT_LEVELS, item->levels, item->level_count);
}

/* The largest row there is. */
#define ROW_BYTES TFLNEST_MODEL_ROW_BYTES

typedef char row_fits_device[ROW_BYTES >= TFLNEST_DEVICE_ROW_BYTES ? 1 : -1];
typedef char row_fits_tensor[ROW_BYTES >= TFLNEST_TENSOR_ROW_BYTES ? 1 : -1];
typedef char row_fits_statistics[ROW_BYTES >= TFLNEST_STATISTICS_ROW_BYTES ? 1 : -1];
typedef char statistics_are_a_row[sizeof(tflnest_protocol_statistics) == TFLNEST_STATISTICS_ROW_BYTES ? 1 : -1];

/* Bytes of a row of a table, and the number of rows; 0 bytes where there is no such table. */
static uint32_t measure_table(const tflnest_protocol_model *model, uint32_t table, uint32_t *rows)
{
    *rows = 1;
    switch (table) {
    case TFLNEST_TABLE_DEVICE:
        return TFLNEST_DEVICE_ROW_BYTES;
    case TFLNEST_TABLE_MODEL:
        return TFLNEST_MODEL_ROW_BYTES;
    case TFLNEST_TABLE_STATE:
        return TFLNEST_STATE_ROW_BYTES;
    case TFLNEST_TABLE_PAGES:
        *rows = model->page_count;
        return TFLNEST_PAGE_ROW_BYTES;
    case TFLNEST_TABLE_INPUTS:
        *rows = model->input_count;
        return TFLNEST_TENSOR_ROW_BYTES;
    case TFLNEST_TABLE_OUTPUTS:
        *rows = model->output_count;
        return TFLNEST_TENSOR_ROW_BYTES;
    case TFLNEST_TABLE_OPERATORS:
        *rows = model->operator_count;
        return TFLNEST_OPERATOR_ROW_BYTES;
    case TFLNEST_TABLE_STATISTICS:
        return TFLNEST_STATISTICS_ROW_BYTES;
    default:
        *rows = 0;
        return 0;
    }
}

static void fill_row(const tflnest_protocol *protocol, uint32_t table, uint32_t row, uint8_t *to)
{
    const tflnest_protocol_config *config = protocol->config;
    const tflnest_protocol_model *model = config->model;
    memset(to, 0, ROW_BYTES);
    switch (table) {
    case TFLNEST_TABLE_DEVICE:
        fill_hello(config, to); /* the row begins as the reply does */
        for (uint32_t i = 0; i < TFLNEST_PROTOCOL_BOARD_NAME_BYTES - 1u && config->board[i] != 0; i++) {
            to[TFLNEST_DEVICE_ROW_AT_BOARD + i] = (uint8_t)config->board[i];
        }
        break;
    case TFLNEST_TABLE_MODEL:
        fill_model(model, to);
        break;
    case TFLNEST_TABLE_STATE:
        fill_state(protocol, to);
        break;
    case TFLNEST_TABLE_PAGES:
        fill_page(model, row, to);
        break;
    case TFLNEST_TABLE_INPUTS:
        fill_tensor(&model->inputs[row], to);
        break;
    case TFLNEST_TABLE_OUTPUTS:
        fill_tensor(&model->outputs[row], to);
        break;
    case TFLNEST_TABLE_OPERATORS:
        fill_operator(model, row, to);
        break;
    default:
        for (uint32_t i = 0; i < TFLNEST_STATISTICS_ROW_BYTES; i += 4u) {
            uint32_t count;
            memcpy(&count, (const uint8_t *)&protocol->statistics + i, sizeof count);
            put32(to + i, count);
        }
        break;
    }
}

static void handle_read(tflnest_protocol *protocol, exchange *request)
{
    uint8_t row[ROW_BYTES];
    uint32_t rows;
    uint8_t *reply = request->reply;
    const uint32_t table = request->payload[TFLNEST_READ_AT_TABLE];
    uint32_t offset = get32(request->payload + TFLNEST_READ_AT_OFFSET);
    uint32_t count = get32(request->payload + TFLNEST_READ_AT_COUNT);
    const uint32_t row_bytes = measure_table(protocol->config->model, table, &rows);
    const uint32_t total = rows * row_bytes;
    const uint32_t room = request->limit - TFLNEST_READ_REPLY_BYTES;
    if (row_bytes == 0u || offset > total) {
        fail(request, TFLNEST_ERROR_CODE_ARGUMENT, table, offset);
        return;
    }
    count = count < room ? count : room;
    count = count < total - offset ? count : total - offset;
    memset(reply, 0, TFLNEST_READ_REPLY_BYTES);
    put32(reply + TFLNEST_READ_REPLY_AT_TOTAL, total);
    put16(reply + TFLNEST_READ_REPLY_AT_ROW_BYTES, row_bytes);
    reply += TFLNEST_READ_REPLY_BYTES;
    request->count = TFLNEST_READ_REPLY_BYTES + count;
    while (count > 0u) {
        const uint32_t within = offset % row_bytes;
        const uint32_t part = count < row_bytes - within ? count : row_bytes - within;
        fill_row(protocol, table, offset / row_bytes, row);
        memcpy(reply, row + within, part);
        reply += part;
        offset += part;
        count -= part;
    }
}

/* --------------------------------------------------------------------------------------------- pages */

static int is_resident(const tflnest_protocol_model *model, uint32_t page)
{
    return (int)((model->resident(model->context) >> page) & 1u);
}

static uint32_t transfer_check(const tflnest_protocol *protocol)
{
    const uint32_t crc = tflnest_crc32(0, protocol->config->model->identity, 32);
    return tflnest_crc32(crc, protocol->transfer, offsetof(tflnest_protocol_transfer, check));
}

static void set_transfer(tflnest_protocol *protocol, uint32_t page, uint32_t offset, uint32_t crc32)
{
    protocol->transfer->page = page;
    protocol->transfer->offset = offset;
    protocol->transfer->crc32 = crc32;
    protocol->transfer->check = transfer_check(protocol);
}

/* Give up the transfer that is under way, and the room that its page has. */
static void end_transfer(tflnest_protocol *protocol)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const uint32_t page = protocol->transfer->page;
    set_transfer(protocol, TFLNEST_PROTOCOL_NO_PAGE, 0, 0);
    if (page != TFLNEST_PROTOCOL_NO_PAGE) {
        (void)model->page_out(model->context, page);
    }
}

static void handle_page_begin(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const tflnest_protocol_page *page = &model->pages[request->page];
    for (uint32_t i = 0; i < 32u; i++) {
        if (request->payload[TFLNEST_PAGE_BEGIN_AT_IDENTITY + i] != model->identity[i]) {
            fail(request, TFLNEST_ERROR_CODE_IDENTITY, page->size, page->crc32);
            return;
        }
    }
    if (is_resident(model, request->page)) {
        fail(request, TFLNEST_ERROR_CODE_ALREADY_RESIDENT, request->page, 0);
        return;
    }
    if (page->size > page->capacity) {
        fail(request, TFLNEST_ERROR_CODE_SIZE, page->size, page->capacity);
        return;
    }
    end_transfer(protocol);
    fail_status(request, model->page_begin(model->context, request->page, 0), page->size, page->capacity);
    if (request->code == 0u) {
        set_transfer(protocol, request->page, 0, 0);
        answer32(request, 0);
    }
}

static void handle_page_data(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    tflnest_protocol_transfer *transfer = protocol->transfer;
    const uint8_t *bytes = request->payload + TFLNEST_PAGE_DATA_BYTES;
    const uint32_t offset = get32(request->payload + TFLNEST_PAGE_DATA_AT_OFFSET);
    const uint32_t count = request->count - TFLNEST_PAGE_DATA_BYTES;
    if (transfer->page != request->page) {
        fail(request, TFLNEST_ERROR_CODE_TRANSFER, request->page, transfer->page);
        return;
    }
    if (offset == transfer->offset && count > 0u) {
        const uint32_t room = model->pages[request->page].size - offset;
        if (count > room || count % 8u != 0u) {
            fail(request, TFLNEST_ERROR_CODE_LENGTH, count, room);
            return;
        }
        fail_status(request, model->page_write(model->context, request->page, offset, bytes, count), count, room);
        if (request->code != 0u) {
            end_transfer(protocol);
            return;
        }
        set_transfer(protocol, request->page, offset + count, tflnest_crc32(transfer->crc32, bytes, count));
    }
    answer32(request, transfer->offset);
}

static void handle_page_end(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const tflnest_protocol_page *page = &model->pages[request->page];
    const tflnest_protocol_transfer transfer = *protocol->transfer;
    const uint32_t size = get32(request->payload + TFLNEST_PAGE_END_AT_SIZE);
    const uint32_t crc32 = get32(request->payload + TFLNEST_PAGE_END_AT_CRC32);
    if (size != page->size || crc32 != page->crc32) {
        fail(request, TFLNEST_ERROR_CODE_IDENTITY, size, crc32);
        return;
    }
    if (!is_resident(model, request->page)) { /* otherwise this is said again because the reply was lost */
        if (transfer.page != request->page || transfer.offset != page->size) {
            fail(request, TFLNEST_ERROR_CODE_TRANSFER, request->page, transfer.offset);
            return;
        }
        if (transfer.crc32 != page->crc32) {
            end_transfer(protocol);
            fail(request, TFLNEST_ERROR_CODE_CRC, transfer.crc32, page->crc32);
            return;
        }
        const tflnest_status status = model->page_end(model->context, request->page, transfer.crc32);
        set_transfer(protocol, TFLNEST_PROTOCOL_NO_PAGE, 0, 0);
        fail_status(request, status, transfer.crc32, page->crc32);
        if (status != TFLNEST_OK) {
            return;
        }
        protocol->statistics.page_ins++;
    }
    answer32(request, model->resident(model->context));
}

static void handle_page_out(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    if (protocol->transfer->page == request->page) {
        end_transfer(protocol);
    }
    if (is_resident(model, request->page)) {
        fail_status(request, model->page_out(model->context, request->page), request->page, 0);
        if (request->code != 0u) {
            return;
        }
        protocol->statistics.page_outs++;
    }
    answer32(request, model->resident(model->context));
}

static void handle_verify(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const tflnest_protocol_page *page = &model->pages[request->page];
    const uint8_t *image = model->page_image(model->context, request->page);
    if (!is_resident(model, request->page) || image == NULL) {
        fail(request, TFLNEST_ERROR_CODE_RESIDENT, page->level, 0);
        return;
    }
    put32(request->reply + TFLNEST_VERIFY_REPLY_AT_SIZE, page->size);
    put32(request->reply + TFLNEST_VERIFY_REPLY_AT_CRC32, tflnest_crc32(0, image, page->size));
    request->count = TFLNEST_VERIFY_REPLY_BYTES;
}

static void handle_set_level(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const uint32_t level = request->payload[TFLNEST_SET_LEVEL_AT_LEVEL];
    const uint32_t row = get16(request->payload + TFLNEST_SET_LEVEL_AT_OPERATOR);
    tflnest_status status = TFLNEST_ERROR_ARGUMENT;
    if (request->payload[TFLNEST_SET_LEVEL_AT_ONE_OPERATOR] == 0u) {
        status = model->set_level(model->context, level);
    } else if (row < model->operator_count) {
        status = model->set_operator_level(model->context, row, level);
    }
    fail_status(request, status, level, row);
    request->count = 0;
}

/* ---------------------------------------------------------------------------------------------- runs */

/* Copy bytes into tensors that follow one another (`from`), or out of them (`to`); returns how many there were. */
static uint32_t copy_tensors(const tflnest_protocol_tensor *tensors, uint32_t tensor_count, uint32_t offset,
                             const uint8_t *from, uint8_t *to, uint32_t count)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < tensor_count && done < count; i++) {
        if (offset >= tensors[i].size) {
            offset -= tensors[i].size;
            continue;
        }
        const uint32_t left = tensors[i].size - offset;
        const uint32_t part = count - done < left ? count - done : left;
        if (from != NULL) {
            memcpy(tensors[i].data + offset, from + done, part);
        } else {
            memcpy(to + done, tensors[i].data + offset, part);
        }
        done += part;
        offset = 0;
    }
    return done;
}

static void handle_input(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const uint8_t *bytes = request->payload + TFLNEST_INPUT_DATA_BYTES;
    const uint32_t offset = get32(request->payload + TFLNEST_INPUT_DATA_AT_OFFSET);
    const uint32_t count = request->count - TFLNEST_INPUT_DATA_BYTES;
    const uint32_t total = tensor_bytes(model->inputs, model->input_count);
    if (offset == 0u && count > 0u) {
        protocol->input_offset = 0;
        protocol->input_crc32 = 0;
    }
    if (offset == protocol->input_offset && count > 0u) {
        if (count > total - offset) {
            fail(request, TFLNEST_ERROR_CODE_LENGTH, count, total - offset);
            return;
        }
        /* The planner may have put an input where an output was. */
        protocol->output_valid = 0;
        (void)copy_tensors(model->inputs, model->input_count, offset, bytes, NULL, count);
        protocol->input_offset += count;
        protocol->input_crc32 = tflnest_crc32(protocol->input_crc32, bytes, count);
    }
    answer32(request, protocol->input_offset);
}

static uint32_t now(const tflnest_protocol *protocol)
{
    const tflnest_protocol_config *config = protocol->config;
    return config->milliseconds == NULL ? 0u : config->milliseconds(config->context);
}

static void run_model(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const uint32_t crc32 = get32(request->payload + TFLNEST_INVOKE_AT_CRC32);
    const uint32_t wanted = request->payload[TFLNEST_INVOKE_AT_LEVEL];
    const uint32_t level = model->level(model->context);
    if (wanted != 0u && wanted != level) {
        fail(request, TFLNEST_ERROR_CODE_LEVEL_CHANGED, level, wanted);
        return;
    }
    if (protocol->input_offset != tensor_bytes(model->inputs, model->input_count) ||
        protocol->input_crc32 != crc32) {
        fail(request, TFLNEST_ERROR_CODE_INPUT, protocol->input_offset, protocol->input_crc32);
        return;
    }
    const uint32_t start = now(protocol);
    protocol->output_valid = 0;
    protocol->input_offset = 0; /* a run may overwrite its inputs */
    protocol->input_crc32 = 0;
    fail_status(request, model->invoke(model->context), level, 0);
    if (request->code != 0u) {
        return;
    }
    protocol->statistics.run_milliseconds = now(protocol) - start;
    protocol->statistics.runs++;
    protocol->run++;
    protocol->run_milliseconds = protocol->statistics.run_milliseconds;
    protocol->run_sequence = request->sequence;
    protocol->run_level = (uint8_t)level;
    protocol->output_crc32 = 0;
    for (uint32_t i = 0; i < model->output_count; i++) {
        protocol->output_crc32 =
            tflnest_crc32(protocol->output_crc32, model->outputs[i].data, model->outputs[i].size);
    }
    protocol->output_valid = 1;
}

static void handle_invoke(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    uint8_t *reply = request->reply;
    /* The same request again: its reply was lost, and its inputs are gone. */
    if (!protocol->output_valid || protocol->run_sequence != request->sequence) {
        run_model(protocol, request);
    }
    if (request->code != 0u) {
        return;
    }
    memset(reply, 0, TFLNEST_INVOKE_REPLY_BYTES);
    put32(reply + TFLNEST_INVOKE_REPLY_AT_RUN, protocol->run);
    put32(reply + TFLNEST_INVOKE_REPLY_AT_OUTPUT_BYTES, tensor_bytes(model->outputs, model->output_count));
    put32(reply + TFLNEST_INVOKE_REPLY_AT_CRC32, protocol->output_crc32);
    put32(reply + TFLNEST_INVOKE_REPLY_AT_MILLISECONDS, protocol->run_milliseconds);
    reply[TFLNEST_INVOKE_REPLY_AT_LEVEL] = protocol->run_level;
    request->count = TFLNEST_INVOKE_REPLY_BYTES;
}

static void handle_output(tflnest_protocol *protocol, exchange *request)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const uint32_t run = get32(request->payload + TFLNEST_OUTPUT_AT_RUN);
    const uint32_t offset = get32(request->payload + TFLNEST_OUTPUT_AT_OFFSET);
    const uint32_t count = get32(request->payload + TFLNEST_OUTPUT_AT_COUNT);
    if (!protocol->output_valid || run != protocol->run) {
        fail(request, TFLNEST_ERROR_CODE_OUTPUT, run, protocol->run);
        return;
    }
    request->count = copy_tensors(model->outputs, model->output_count, offset, NULL, request->reply,
                                  count < request->limit ? count : request->limit);
}

/* ------------------------------------------------------------------------------------------ messages */

static void handle_hello(tflnest_protocol *protocol, exchange *request)
{
    memset(request->reply, 0, TFLNEST_HELLO_REPLY_BYTES);
    fill_hello(protocol->config, request->reply);
    request->count = TFLNEST_HELLO_REPLY_BYTES;
}

static void handle_reset_statistics(tflnest_protocol *protocol, exchange *request)
{
    memset(&protocol->statistics, 0, sizeof protocol->statistics);
    request->count = 0;
}

static void handle_reset(tflnest_protocol *protocol, exchange *request)
{
    if (get32(request->payload) != TFLNEST_PROTOCOL_RESET_KEY || protocol->config->reset == NULL) {
        fail(request, TFLNEST_ERROR_CODE_ARGUMENT, TFLNEST_MESSAGE_RESET, 0);
    }
    request->count = 0;
}

/* What to do with a request. A table keeps the handlers apart, so that a run has little stack below it. */
typedef struct {
    void (*handle)(tflnest_protocol *protocol, exchange *request);
    uint8_t type;
    uint8_t least;    /* bytes of the payload; more belong to a later version of the protocol */
    uint8_t has_page; /* 1: the header has a page of the model */
} handler;

static const handler handlers[] = {
    {handle_hello, TFLNEST_MESSAGE_HELLO, 0, 0},
    {handle_read, TFLNEST_MESSAGE_READ, TFLNEST_READ_BYTES, 0},
    {handle_page_begin, TFLNEST_MESSAGE_PAGE_BEGIN, TFLNEST_PAGE_BEGIN_BYTES, 1},
    {handle_page_data, TFLNEST_MESSAGE_PAGE_DATA, TFLNEST_PAGE_DATA_BYTES, 1},
    {handle_page_end, TFLNEST_MESSAGE_PAGE_END, TFLNEST_PAGE_END_BYTES, 1},
    {handle_page_out, TFLNEST_MESSAGE_PAGE_OUT, 0, 1},
    {handle_verify, TFLNEST_MESSAGE_VERIFY, 0, 1},
    {handle_set_level, TFLNEST_MESSAGE_SET_LEVEL, TFLNEST_SET_LEVEL_BYTES, 0},
    {handle_input, TFLNEST_MESSAGE_INPUT, TFLNEST_INPUT_DATA_BYTES, 0},
    {handle_invoke, TFLNEST_MESSAGE_INVOKE, TFLNEST_INVOKE_BYTES, 0},
    {handle_output, TFLNEST_MESSAGE_OUTPUT, TFLNEST_OUTPUT_BYTES, 0},
    {handle_reset_statistics, TFLNEST_MESSAGE_RESET_STATISTICS, 0, 0},
    {handle_reset, TFLNEST_MESSAGE_RESET, TFLNEST_RESET_BYTES, 0},
};

static void handle(tflnest_protocol *protocol, uint32_t type, exchange *request)
{
    const handler *found = NULL;
    for (uint32_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++) {
        if (handlers[i].type == type) {
            found = &handlers[i];
        }
    }
    if (found == NULL) {
        fail(request, TFLNEST_ERROR_CODE_TYPE, type, 0);
    } else if (request->count < found->least) {
        fail(request, TFLNEST_ERROR_CODE_LENGTH, request->count, found->least);
    } else if (found->has_page != 0u && request->page >= protocol->config->model->page_count) {
        fail(request, TFLNEST_ERROR_CODE_PAGE, request->page, 0);
    } else {
        found->handle(protocol, request);
    }
}

/* Whether a request is of the present session and not older than the last one. A hello may begin a session. */
static int admit(tflnest_protocol *protocol, uint32_t type, exchange *request)
{
    const uint32_t session = request->session;
    if (type == TFLNEST_MESSAGE_HELLO && session != 0u && session != protocol->session) {
        protocol->session = (uint16_t)session;
        protocol->output_valid = 0; /* of somebody else, under sequence numbers that may come again */
    } else if (session != protocol->session || session == 0u) {
        fail(request, TFLNEST_ERROR_CODE_SESSION, protocol->session, session);
    } else if (((request->sequence - protocol->sequence) & 0x8000) != 0) {
        protocol->statistics.stale_frames++;
        return 0;
    }
    if (request->code == 0u) {
        protocol->sequence = request->sequence;
    }
    return 1;
}

/* Answer a frame that is not sound, so that the host need not wait until it gives up. */
static void refuse_frame(tflnest_protocol *protocol)
{
    exchange answer;
    memset(&answer, 0, sizeof answer);
    if (protocol->session != 0u) {
        answer.session = protocol->session;
        answer.sequence = protocol->sequence;
        answer.code = TFLNEST_ERROR_CODE_FRAME;
        send_error(protocol, 0, &answer);
    }
}

/* A frame is complete in the buffer. */
static void take_frame(tflnest_protocol *protocol)
{
    const uint8_t *frame = protocol->config->frame;
    const uint32_t length = protocol->length;
    exchange request;
    if (length < TFLNEST_HEADER_BYTES + TFLNEST_PROTOCOL_CRC_BYTES ||
        tflnest_crc32(0, frame, length - TFLNEST_PROTOCOL_CRC_BYTES) !=
            get32(frame + length - TFLNEST_PROTOCOL_CRC_BYTES) ||
        frame[TFLNEST_HEADER_AT_HEADER_SIZE] < TFLNEST_HEADER_BYTES ||
        frame[TFLNEST_HEADER_AT_HEADER_SIZE] > length - TFLNEST_PROTOCOL_CRC_BYTES) {
        protocol->statistics.damaged_frames++;
        refuse_frame(protocol);
        return;
    }
    protocol->statistics.frames++;
    const uint32_t header_size = frame[TFLNEST_HEADER_AT_HEADER_SIZE];
    const uint32_t version = frame[TFLNEST_HEADER_AT_VERSION];
    const uint32_t type = frame[TFLNEST_HEADER_AT_TYPE];
    if ((type & TFLNEST_PROTOCOL_REPLY_BIT) != 0u) {
        return; /* the line carries our own words back */
    }
    memset(&request, 0, sizeof request);
    request.payload = frame + header_size;
    request.reply = protocol->config->frame + TFLNEST_HEADER_BYTES;
    request.count = length - header_size - TFLNEST_PROTOCOL_CRC_BYTES;
    request.limit = protocol->config->frame_bytes - TFLNEST_HEADER_BYTES - TFLNEST_PROTOCOL_CRC_BYTES;
    request.page = frame[TFLNEST_HEADER_AT_PAGE];
    request.session = (uint16_t)get16(frame + TFLNEST_HEADER_AT_SESSION);
    request.sequence = (uint16_t)get16(frame + TFLNEST_HEADER_AT_SEQUENCE);
    if (version != TFLNEST_PROTOCOL_VERSION) {
        fail(&request, TFLNEST_ERROR_CODE_VERSION, TFLNEST_PROTOCOL_VERSION, version);
    } else if (!admit(protocol, type, &request)) {
        return;
    }
    if (request.code == 0u) {
        handle(protocol, type, &request);
    }
    if (request.code != 0u) {
        send_error(protocol, type, &request);
        return;
    }
    send_message(protocol, type, &request);
    if (type == TFLNEST_MESSAGE_RESET) {
        protocol->config->reset(protocol->config->context);
    }
}

/* ---------------------------------------------------------------------------------------- receiving */

static void expect_frame(tflnest_protocol *protocol)
{
    protocol->length = 0;
    protocol->block = 0;
    protocol->zero = 0;
    protocol->inside = 0;
    protocol->oversized = 0;
}

static void keep(tflnest_protocol *protocol, uint8_t byte)
{
    if (protocol->length < protocol->config->frame_bytes) {
        protocol->config->frame[protocol->length] = byte;
        protocol->length++;
    } else {
        protocol->oversized = 1;
    }
}

static void take_end(tflnest_protocol *protocol)
{
    if (!protocol->inside) {
        return; /* zeros between frames mean nothing */
    }
    if (protocol->oversized) {
        protocol->statistics.oversized_frames++;
        refuse_frame(protocol);
    } else if (protocol->block != 0u) {
        protocol->statistics.damaged_frames++;
        refuse_frame(protocol);
    } else {
        take_frame(protocol);
    }
    expect_frame(protocol);
}

static void take_byte(tflnest_protocol *protocol, uint8_t byte)
{
    if (byte == 0u) {
        take_end(protocol);
        return;
    }
    protocol->inside = 1;
    if (protocol->block > 0u) {
        protocol->block--;
        keep(protocol, byte);
        return;
    }
    if (protocol->zero) {
        keep(protocol, 0);
    }
    protocol->block = (uint8_t)(byte - 1u);
    protocol->zero = (uint8_t)(byte != 255u);
}

void tflnest_protocol_receive(tflnest_protocol *protocol, const uint8_t *bytes, uint32_t count)
{
    const uint32_t time = now(protocol);
    const uint32_t stall = protocol->config->stall_milliseconds;
    if (protocol->inside && stall != 0u && time - protocol->last_byte_time >= stall) {
        protocol->statistics.stalled_frames++;
        expect_frame(protocol);
    }
    if (count > 0u) {
        protocol->last_byte_time = time;
        protocol->statistics.received_bytes += count;
    }
    for (uint32_t i = 0; i < count; i++) {
        take_byte(protocol, bytes[i]);
    }
}

/* ---------------------------------------------------------------------------------------- starting */

/* Whether a transfer survived a reset: the record is sound, and the bytes are still there. */
static int transfer_survived(const tflnest_protocol *protocol)
{
    const tflnest_protocol_model *model = protocol->config->model;
    const tflnest_protocol_transfer *transfer = protocol->transfer;
    if (transfer->check != transfer_check(protocol) || transfer->page >= model->page_count ||
        transfer->offset > model->pages[transfer->page].size || is_resident(model, transfer->page)) {
        return 0;
    }
    const uint8_t *image = model->page_image(model->context, transfer->page);
    return image != NULL && tflnest_crc32(0, image, transfer->offset) == transfer->crc32 &&
           model->page_begin(model->context, transfer->page, transfer->offset) == TFLNEST_OK;
}

/* Go on with a page of which a part lies where the loss of power does not reach it. The host compares its CRC-32. */
static void find_transfer(tflnest_protocol *protocol)
{
    const tflnest_protocol_model *model = protocol->config->model;
    for (uint32_t page = 0; model->page_found != NULL && page < model->page_count; page++) {
        const uint32_t offset = is_resident(model, page) ? 0u : model->page_found(model->context, page);
        const uint8_t *image = offset > 0u ? model->page_image(model->context, page) : NULL;
        if (image != NULL && model->page_begin(model->context, page, offset) == TFLNEST_OK) {
            set_transfer(protocol, page, offset, tflnest_crc32(0, image, offset));
            return;
        }
    }
}

tflnest_status tflnest_protocol_start(tflnest_protocol *protocol, const tflnest_protocol_config *config)
{
    exchange answer;
    memset(protocol, 0, sizeof *protocol);
    if (config == NULL || config->model == NULL || config->frame == NULL || config->send == NULL ||
        config->board == NULL ||
        config->frame_bytes < TFLNEST_PROTOCOL_MIN_FRAME_BYTES ||
        config->frame_bytes > TFLNEST_PROTOCOL_MAX_FRAME_BYTES || config->model->level_count < 1u ||
        config->model->level_count > TFLNEST_PROTOCOL_MAX_LEVELS ||
        config->model->page_count > TFLNEST_PROTOCOL_MAX_PAGES) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    protocol->config = config;
    protocol->transfer = config->transfer != NULL ? config->transfer : &protocol->own_transfer;
    if (config->transfer == NULL || !transfer_survived(protocol)) {
        set_transfer(protocol, TFLNEST_PROTOCOL_NO_PAGE, 0, 0);
        find_transfer(protocol);
    }
    memset(&answer, 0, sizeof answer);
    answer.count = TFLNEST_HELLO_REPLY_BYTES;
    memset(config->frame + TFLNEST_HEADER_BYTES, 0, TFLNEST_HELLO_REPLY_BYTES);
    fill_hello(config, config->frame + TFLNEST_HEADER_BYTES);
    send_message(protocol, TFLNEST_MESSAGE_HELLO, &answer);
    return TFLNEST_OK;
}
