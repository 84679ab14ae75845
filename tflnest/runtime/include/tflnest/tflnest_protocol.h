/* The device's side of the serial protocol (PROTOCOL.md): a state machine over bytes.
 *
 * It knows neither the port nor the model. Bytes that arrive are given to `tflnest_protocol_receive`; bytes to
 * send leave through a callback; the model is a `tflnest_protocol_model`: constants, and functions to page and
 * run it. There is one buffer, the caller's, for the frame that arrives and then for its reply.
 *
 * Whatever arrives, nothing is read or written outside the buffers and tensors that were given, and every
 * function returns. A page counts only once its CRC-32 matches; a transfer that fails changes nothing that runs.
 *
 *     static uint8_t frame[1024];
 *     static tflnest_protocol protocol;
 *     if (tflnest_protocol_start(&protocol, &config) != TFLNEST_OK) { fail(); }
 *     for (;;) {
 *         uint32_t count = port_read(bytes, sizeof bytes);
 *         tflnest_protocol_receive(&protocol, bytes, count);
 *     }
 */
#ifndef TFLNEST_PROTOCOL_H
#define TFLNEST_PROTOCOL_H

#include "tflnest/tflnest_protocol_messages.h"
#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A page of the model. */
typedef struct {
    uint8_t level;     /* the level that it completes, 1 to 8 bits */
    uint8_t place;     /* TFLNEST_PLACE_... */
    uint32_t size;     /* bytes, a multiple of 8 */
    uint32_t crc32;    /* of the image */
    uint32_t capacity; /* bytes that there are for it; 0 where it cannot be sent */
} tflnest_protocol_page;

/* An input or output of the model. */
typedef struct {
    uint8_t *data;       /* in SRAM, `size` bytes */
    uint32_t size;       /* bytes */
    uint8_t type;        /* number of its TensorType in the TFLite schema */
    uint8_t rank;        /* dimensions, 0 to TFLNEST_PROTOCOL_MAX_DIMENSIONS */
    int32_t shape[TFLNEST_PROTOCOL_MAX_DIMENSIONS]; /* the first `rank` count */
    uint32_t scale;      /* bits of the float32 scale, 0 where it is not quantized */
    int32_t zero_point;
} tflnest_protocol_tensor;

/* An operator with levels of its own. */
typedef struct {
    uint16_t index;      /* among the operators of the model */
    uint8_t level_count; /* 1 to TFLNEST_PROTOCOL_MAX_LEVELS */
    uint8_t levels[TFLNEST_PROTOCOL_MAX_LEVELS]; /* lowest first */
} tflnest_protocol_operator;

/* The model: what it is, and how it is paged and run. Everything is const and may lie in flash.
 *
 * Pages and operators that the functions get exist. Every function gets `context`.
 */
typedef struct {
    const uint8_t *identity; /* 32 bytes (FORMAT.md, section 8.6) */
    const uint8_t *levels;   /* lowest first */
    const tflnest_protocol_page *pages;
    const tflnest_protocol_operator *operators;
    const tflnest_protocol_tensor *inputs;
    const tflnest_protocol_tensor *outputs;
    uint8_t level_count; /* 1 to TFLNEST_PROTOCOL_MAX_LEVELS */
    uint8_t page_count;  /* 1 to TFLNEST_PROTOCOL_MAX_PAGES */
    uint16_t operator_count;
    uint16_t input_count;
    uint16_t output_count;
    void *context;

    /* One bit per resident page, page 0 in bit 0. */
    uint32_t (*resident)(void *context);
    /* The level that the whole model runs at; 0 where operators have levels of their own, or none can run. */
    uint32_t (*level)(void *context);
    /* The bits that operator `row` runs at. */
    uint32_t (*operator_level)(void *context, uint32_t row);
    /* Bytes of SRAM that nothing uses. */
    uint32_t (*free_sram)(void *context);

    /* Make room for a page that is not resident and whose size fits its capacity. The first `offset` bytes of
     * the room stay as they are: they survived a reset, and their CRC-32 was checked. */
    tflnest_status (*page_begin)(void *context, uint32_t page, uint32_t offset);
    /* Write bytes at an offset that follows what was written. It is a multiple of 8, as is `count`. */
    tflnest_status (*page_write)(void *context, uint32_t page, uint32_t offset, const uint8_t *bytes,
                                 uint32_t count);
    /* Make a page resident, all of whose bytes were written; `crc32` is what they had when they came. Where that
     * is not the CRC-32 of the page: TFLNEST_ERROR_CRC, and the room is free again. */
    tflnest_status (*page_end)(void *context, uint32_t page, uint32_t crc32);
    /* Give up a page that is resident; TFLNEST_ERROR_IN_USE where the present level needs it. Also called with a
     * page that is not resident, where its transfer is given up: the room is free again. */
    tflnest_status (*page_out)(void *context, uint32_t page);
    /* Where the image of a page lies, or is being written to; NULL where it has no place. */
    const uint8_t *(*page_image)(void *context, uint32_t page);
    /* Bytes of a page that is not resident which lie in its place since before the power went: a multiple of 8, at
     * most its size, right or not. NULL where nothing outlives that. */
    uint32_t (*page_found)(void *context, uint32_t page);

    /* Choose the level of the next runs. Where a page is missing: TFLNEST_ERROR_RESIDENT, and nothing changes. */
    tflnest_status (*set_level)(void *context, uint32_t level);
    tflnest_status (*set_operator_level)(void *context, uint32_t row, uint32_t level);
    /* Run the model on its inputs. The inputs may be overwritten; the outputs stay until an input is written. */
    tflnest_status (*invoke)(void *context);
} tflnest_protocol_model;

/* The transfer of a page. Kept in memory that survives a reset, together with the rooms of pages, a transfer
 * goes on after it. */
typedef struct {
    uint32_t page;   /* TFLNEST_PROTOCOL_NO_PAGE where there is none */
    uint32_t offset; /* bytes that have arrived */
    uint32_t crc32;  /* their CRC-32 */
    uint32_t check;  /* CRC-32 of the model's identity and of all that is above */
} tflnest_protocol_transfer;

/* What the state machine is given. */
typedef struct {
    const tflnest_protocol_model *model;
    const char *board;                   /* name; the first TFLNEST_PROTOCOL_BOARD_NAME_BYTES - 1 bytes count */
    uint8_t *frame;                      /* buffer for one frame */
    uint32_t frame_bytes;                /* TFLNEST_PROTOCOL_MIN_FRAME_BYTES to ..._MAX_FRAME_BYTES */
    uint32_t window_bytes;               /* bytes that the port buffers while a frame is handled, and that frame */
    uint32_t stall_milliseconds;         /* a frame that does not go on for so long is dropped; 0: never */
    tflnest_protocol_transfer *transfer; /* in memory that survives a reset; NULL: transfers do not */
    void *context;                       /* for the functions below */
    /* Send bytes; returns when they may be overwritten. */
    void (*send)(void *context, const uint8_t *bytes, uint32_t count);
    /* Time since whenever, wrapping; NULL: frames never stall and runs take no time. */
    uint32_t (*milliseconds)(void *context);
    /* Start the device anew; NULL where it cannot. May return, where the reset comes later. */
    void (*reset)(void *context);
} tflnest_protocol_config;

/* Counts; the last two are the port's and may be set at any time. */
typedef struct {
    uint32_t received_bytes;
    uint32_t sent_bytes;
    uint32_t frames;
    uint32_t damaged_frames;
    uint32_t oversized_frames;
    uint32_t stalled_frames;
    uint32_t stale_frames;
    uint32_t errors;
    uint32_t page_ins;
    uint32_t page_outs;
    uint32_t runs;
    uint32_t run_milliseconds;
    uint32_t overruns;
    uint32_t stack_peak;
} tflnest_protocol_statistics;

/* The state. Only `statistics` is for others to look at. */
typedef struct {
    const tflnest_protocol_config *config;
    tflnest_protocol_transfer *transfer;
    tflnest_protocol_transfer own_transfer;
    tflnest_protocol_statistics statistics;
    uint32_t last_byte_time;
    uint32_t input_offset;
    uint32_t input_crc32;
    uint32_t run;
    uint32_t run_milliseconds;
    uint32_t output_crc32;
    uint32_t length;        /* bytes in the frame buffer */
    uint16_t session;       /* 0: none */
    uint16_t sequence;      /* of the last request */
    uint16_t run_sequence;  /* of the request for the last run */
    uint8_t run_level;      /* of the last run */
    uint8_t output_valid;   /* the outputs are those of the last run */
    uint8_t block;          /* bytes that are left of a stuffed block */
    uint8_t zero;           /* a zero stands between this block and the next */
    uint8_t inside;         /* a frame has begun */
    uint8_t oversized;      /* it is too long: the rest is not kept */
} tflnest_protocol;

/* Start, and tell a host that listens. A transfer in `config->transfer` goes on if its bytes are still there; otherwise
 * that of the first page of which the model finds a part.
 *
 * Returns TFLNEST_ERROR_ARGUMENT where the configuration makes no sense. `config`, and all that it points to,
 * must stay.
 */
tflnest_status tflnest_protocol_start(tflnest_protocol *protocol, const tflnest_protocol_config *config);

/* Take bytes that arrived, in any portions, and answer every frame that ends among them.
 *
 * Call it now and then without bytes (`count` 0), so that a frame that does not go on is dropped in time.
 */
void tflnest_protocol_receive(tflnest_protocol *protocol, const uint8_t *bytes, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif
