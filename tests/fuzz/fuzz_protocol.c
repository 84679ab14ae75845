/* Hostile bytes for the device's side of the protocol, under sanitizers.
 *
 * Every input is a program: commands that make sound frames with arbitrary contents, or raw bytes. The model
 * keeps its pages in buffers of exactly their size, so that a write beyond one is noticed, and checks what the
 * protocol promises it.
 *
 * With libFuzzer:  clang -g -O1 -fsanitize=fuzzer,address,undefined -Itflnest/runtime/include \
 *                    tests/fuzz/fuzz_protocol.c tflnest/runtime/src/tflnest_protocol.c \
 *                    tflnest/runtime/src/tflnest_crc32.c -o fuzz_protocol && ./fuzz_protocol
 * On its own:      the same with gcc, -fsanitize=address,undefined and -DFUZZ_ALONE; arguments: seed, inputs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_check.h"
#include "tflnest/tflnest_crc32.h"
#include "tflnest/tflnest_protocol.h"

#define PAGES 3u

static const uint32_t sizes[PAGES] = {16, 120, 264};
static const uint8_t levels[3] = {4, 6, 8};
static uint8_t identity[32];
static uint8_t *images[PAGES];
static uint32_t written[PAGES];
static uint32_t resident;
static uint32_t level;
static uint32_t milliseconds;
static uint8_t *input_data;
static uint8_t *output_data;
static tflnest_protocol_page pages[PAGES];

static uint32_t get_resident(void *context)
{
    (void)context;
    return resident;
}

static uint32_t get_level(void *context)
{
    (void)context;
    return level;
}

static uint32_t get_operator_level(void *context, uint32_t row)
{
    (void)context;
    CHECK(row < 2u);
    return level;
}
static uint32_t get_free_sram(void *context)
{
    (void)context;
    return 1000;
}

static tflnest_status page_begin(void *context, uint32_t page, uint32_t offset)
{
    (void)context;
    CHECK(page < PAGES && ((resident >> page) & 1u) == 0u && offset <= sizes[page]);
    written[page] = offset;
    return TFLNEST_OK;
}

static tflnest_status page_write(void *context, uint32_t page, uint32_t offset, const uint8_t *bytes, uint32_t count)
{
    (void)context;
    CHECK(page < PAGES && offset == written[page] && offset % 8u == 0u && count % 8u == 0u && count > 0u);
    CHECK(count <= sizes[page] - offset && ((resident >> page) & 1u) == 0u);
    memcpy(images[page] + offset, bytes, count);
    written[page] += count;
    return offset == 64u && bytes[0] == 7u ? TFLNEST_ERROR_SIZE : TFLNEST_OK;
}

static tflnest_status page_end(void *context, uint32_t page, uint32_t crc32)
{
    (void)context;
    CHECK(page < PAGES && written[page] == sizes[page]);
    CHECK(crc32 == pages[page].crc32 && tflnest_crc32(0, images[page], sizes[page]) == crc32);
    resident |= 1u << page;
    return TFLNEST_OK;
}

static tflnest_status page_out(void *context, uint32_t page)
{
    (void)context;
    CHECK(page < PAGES);
    if (((resident >> page) & 1u) != 0u && level >= pages[page].level) {
        return TFLNEST_ERROR_IN_USE;
    }
    resident &= ~(1u << page);
    return TFLNEST_OK;
}

static const uint8_t *page_image(void *context, uint32_t page)
{
    (void)context;
    CHECK(page < PAGES);
    return images[page];
}

/* As after a loss of power that spared the pages. */
static uint32_t page_found(void *context, uint32_t page)
{
    (void)context;
    CHECK(page < PAGES && ((resident >> page) & 1u) == 0u);
    return written[page] / 64u * 64u;
}

static tflnest_status set_level(void *context, uint32_t wanted)
{
    (void)context;
    for (uint32_t i = 0; i < 3u; i++) {
        if (levels[i] == wanted) {
            if ((resident & ((2u << i) - 1u)) != (2u << i) - 1u) {
                return TFLNEST_ERROR_RESIDENT;
            }
            level = wanted;
            return TFLNEST_OK;
        }
    }
    return TFLNEST_ERROR_LEVEL;
}

static tflnest_status set_operator_level(void *context, uint32_t row, uint32_t wanted)
{
    (void)context;
    CHECK(row < 2u);
    return wanted == 4u ? TFLNEST_OK : TFLNEST_ERROR_LEVEL;
}

static tflnest_status invoke(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < 10u; i++) {
        output_data[i] = (uint8_t)(input_data[i] ^ level);
    }
    memset(input_data, 0xA5, 30);
    return input_data[3] == 1u ? TFLNEST_ERROR_ARGUMENT : TFLNEST_OK;
}

static uint32_t sent_zeros;
static void send_bytes(void *context, const uint8_t *bytes, uint32_t count)
{
    (void)context;
    CHECK(count > 0u);
    for (uint32_t i = 0; i < count; i++) {
        sent_zeros += bytes[i] == 0u ? 1u : 0u;
    }
}
static uint32_t get_milliseconds(void *context)
{
    (void)context;
    return milliseconds;
}

static uint32_t restarts;
static void restart(void *context)
{
    (void)context;
    restarts++;
}

/* ---------------------------------------------------------------------------------------------- frames */

static tflnest_protocol protocol;
static uint16_t sequence;

static void stuff_and_send(const uint8_t *frame, uint32_t length)
{
    uint8_t wire[1200];
    uint32_t code_at = 0, end = 1;
    for (uint32_t i = 0; i < length; i++) {
        if (frame[i] != 0u) {
            wire[end++] = frame[i];
        }
        if (frame[i] == 0u || end - code_at == 255u) {
            wire[code_at] = (uint8_t)(end - code_at);
            code_at = end++;
        }
    }
    wire[code_at] = (uint8_t)(end - code_at);
    wire[end++] = 0;
    tflnest_protocol_receive(&protocol, wire, end);
}

static void send_frame(uint8_t type, uint8_t page, uint16_t session, const uint8_t *payload, uint32_t count)
{
    uint8_t frame[1024];
    const uint32_t length = 8u + count;
    const uint8_t header[8] = {1, 8, type, page, (uint8_t)session, (uint8_t)(session >> 8), (uint8_t)sequence,
                               (uint8_t)(sequence >> 8)};
    memcpy(frame, header, sizeof header);
    if (count > 0u) {
        memcpy(frame + 8, payload, count);
    }
    const uint32_t crc = tflnest_crc32(0, frame, length);
    for (uint32_t i = 0; i < 4u; i++) {
        frame[length + i] = (uint8_t)(crc >> (8u * i));
    }
    sequence++;
    stuff_and_send(frame, length + 4u);
}

/* The data that makes a page complete, so that deeper states are reached. */
static void send_right_data(uint32_t page, uint32_t count)
{
    uint8_t payload[512] = {0};
    const uint32_t offset = written[page] > sizes[page] ? 0 : written[page];
    count = count < sizes[page] - offset ? count : sizes[page] - offset;
    payload[0] = (uint8_t)offset;
    payload[1] = (uint8_t)(offset >> 8);
    for (uint32_t i = 0; i < count; i++) {
        payload[4u + i] = (uint8_t)(3u * (offset + i) + page);
    }
    send_frame(TFLNEST_MESSAGE_PAGE_DATA, (uint8_t)page, 1, payload, 4u + count);
}

static void send_right_end(uint32_t page)
{
    uint8_t payload[8] = {0};
    payload[0] = (uint8_t)sizes[page];
    payload[1] = (uint8_t)(sizes[page] >> 8);
    for (uint32_t i = 0; i < 4u; i++) {
        payload[4u + i] = (uint8_t)(pages[page].crc32 >> (8u * i));
    }
    send_frame(TFLNEST_MESSAGE_PAGE_END, (uint8_t)page, 1, payload, 8);
}

static void send_run(void)
{
    uint8_t payload[34] = {0};
    memset(payload + 4, 9, 30);
    send_frame(TFLNEST_MESSAGE_INPUT, 0, 1, payload, 34);
    const uint32_t crc = tflnest_crc32(0, payload + 4, 30);
    uint8_t request[8] = {(uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16), (uint8_t)(crc >> 24), 0, 0, 0, 0};
    send_frame(TFLNEST_MESSAGE_INVOKE, 0, 1, request, 8);
}

/* ---------------------------------------------------------------------------------------------- inputs */

static const tflnest_protocol_operator operators[2] = {{3, 3, {4, 6, 8}}, {700, 2, {4, 8}}};

static void run_program(const uint8_t *data, size_t size, uint32_t frame_bytes, tflnest_protocol_transfer *kept)
{
    const tflnest_protocol_tensor inputs[2] = {{input_data, 20, 9, 2, {1, 20}, 0, 0},
                                               {input_data + 20, 10, 9, 1, {10}, 0, 0}};
    const tflnest_protocol_tensor outputs[1] = {{output_data, 10, 9, 2, {1, 10}, 0x3f800000u, -3}};
    const tflnest_protocol_model model = {
        identity, levels, pages, operators, inputs, outputs, 3, PAGES, 2, 2, 1, NULL,
        get_resident, get_level, get_operator_level, get_free_sram, page_begin, page_write, page_end, page_out,
        page_image, page_found, set_level, set_operator_level, invoke};
    uint8_t *frame = malloc(frame_bytes);
    const tflnest_protocol_config config = {&model, "fuzz", frame, frame_bytes, frame_bytes, 100, kept, NULL,
                                            send_bytes, get_milliseconds, restart};
    CHECK(frame != NULL && tflnest_protocol_start(&protocol, &config) == TFLNEST_OK);
    send_frame(TFLNEST_MESSAGE_HELLO, 0, 1, NULL, 0);
    for (size_t at = 0; at < size;) {
        const uint8_t command = data[at++];
        const uint8_t argument = at < size ? data[at++] : 0;
        const uint32_t left = (uint32_t)(size - at);
        const uint32_t count = argument < left ? argument : left;
        switch (command % 12u) {
        case 0: /* raw bytes */
            tflnest_protocol_receive(&protocol, data + at, count);
            at += count;
            break;
        case 1:
            milliseconds += argument;
            break;
        case 2:
            send_frame(TFLNEST_MESSAGE_PAGE_BEGIN, argument % 4u, 1, identity, 32);
            break;
        case 3:
            send_right_data(argument % PAGES, 8u * (1u + argument / 4u % 8u));
            break;
        case 4:
            if (argument >= 128u) {
                send_frame(TFLNEST_MESSAGE_PAGE_BEGIN, argument % PAGES, 1, identity, 32);
                for (uint32_t i = 0; i < 10u; i++) {
                    send_right_data(argument % PAGES, 40);
                }
            }
            send_right_end(argument % PAGES);
            break;
        case 5:
            send_run();
            break;
        case 6:
            if (argument % 8u == 0u) {
                const uint8_t key[4] = {0x52, 0x53, 0x45, 0x54};
                send_frame(TFLNEST_MESSAGE_RESET, 0, 1, key, 4);
            } else {
                sequence = (uint16_t)(sequence + argument * 300u);
            }
            break;
        case 7:
            send_frame(TFLNEST_MESSAGE_HELLO, 0, argument, NULL, 0);
            break;
        default: /* any message with any payload */
            send_frame((uint8_t)(command / 12u * 7u + argument), (uint8_t)(argument % 5u), 1, data + at,
                       count < 64u ? count : 64u);
            at += count < 64u ? count : 64u;
            break;
        }
        for (uint32_t page = 0; page < PAGES; page++) {
            CHECK(level < levels[page] || ((resident >> page) & 1u) != 0u);
            if (((resident >> page) & 1u) != 0u) {
                CHECK(tflnest_crc32(0, images[page], sizes[page]) == pages[page].crc32);
            }
        }
    }
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tflnest_protocol_transfer transfer = {TFLNEST_PROTOCOL_NO_PAGE, 0, 0, 0};
    const uint32_t frame_bytes = size > 0 ? 64u + 5u * data[0] : 64u;
    for (uint32_t page = 0; page < PAGES; page++) {
        images[page] = malloc(sizes[page]);
        CHECK(images[page] != NULL);
        for (uint32_t i = 0; i < sizes[page]; i++) {
            images[page][i] = (uint8_t)(3u * i + page);
        }
        pages[page] = (tflnest_protocol_page){levels[page], (uint8_t)page, sizes[page],
                                              tflnest_crc32(0, images[page], sizes[page]), sizes[page]};
        written[page] = 0;
    }
    for (uint32_t i = 0; i < 32u; i++) {
        identity[i] = (uint8_t)(200u + i);
    }
    input_data = malloc(30);
    output_data = malloc(10);
    CHECK(input_data != NULL && output_data != NULL);
    memset(output_data, 0, 10);
    resident = 1;
    level = 4;
    sequence = 1;
    run_program(data, size / 2u, frame_bytes, &transfer);
    run_program(data + size / 2u, size - size / 2u, frame_bytes, &transfer); /* as after a reset */
    for (uint32_t page = 0; page < PAGES; page++) {
        free(images[page]);
    }
    free(input_data);
    free(output_data);
    return 0;
}

#ifdef FUZZ_ALONE
int main(int count, char **arguments)
{
    uint32_t state = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : 1u;
    const long inputs = count > 2 ? strtol(arguments[2], NULL, 10) : 1000;
    static uint8_t data[2000];
    uint32_t page_ins = 0, runs = 0;
    for (long number = 0; number < inputs; number++) {
        for (uint32_t i = 0; i < sizeof data; i++) {
            state = state * 1664525u + 1013904223u;
            data[i] = (uint8_t)(state >> 24);
        }
        LLVMFuzzerTestOneInput(data, sizeof data);
        page_ins += protocol.statistics.page_ins;
        runs += protocol.statistics.runs;
    }
    printf("%ld inputs, %u page-ins, %u runs, %u restarts, %u frames sent\n", inputs, page_ins, runs, restarts,
           sent_zeros);
    return 0;
}
#endif
