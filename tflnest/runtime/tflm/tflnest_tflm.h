/* Nested models in TensorFlow Lite for Microcontrollers.
 *
 * Compile the component's files with the application, and add the operators to its resolver:
 *
 *     tflnest::AddOperators(resolver);
 *
 * A nested file then runs like any other, at its highest level. To choose levels and pages, open the file before
 * AllocateTensors:
 *
 *     static tflnest_tflm nested;
 *     tflnest_tflm_open(&nested, model_data, model_size);
 *     ... MicroInterpreter, AllocateTensors ...
 *     tflnest_tflm_set_level(&nested, 4);
 *
 * An opened file is also checked more: no constant of a nested operator is then read beyond the file's end.
 *
 * Scratch lies in the arena as far as that stays no larger than with the int8 model: operators take no more of it than
 * the multipliers that stay in the file, and what the stock kernels take, leave free. Where that is too little, they
 * take the stack: TFLNEST_TFLM_STACK_SCRATCH bytes at most, 1280 where it is not defined. Define
 * TFLNEST_TFLM_EXTRA_SCRATCH as a number of bytes that each may take of the arena beyond that, and become faster.
 */
#ifndef TFLNEST_TFLM_H
#define TFLNEST_TFLM_H

#include "tflnest/tflnest_types.h"

#define TFLNEST_TFLM_MAX_PAGES 8u

#ifdef __cplusplus
extern "C" {
#endif

/* A nested file that an interpreter runs. Static memory of the application; only for the functions below. */
typedef struct tflnest_tflm {
    struct tflnest_tflm *next;
    const uint8_t *file;
    size_t size;
    const uint8_t *directory;
    const uint8_t *images[TFLNEST_TFLM_MAX_PAGES]; /* of pages that came in from elsewhere, or NULL */
    void *context;                                 /* of the interpreter */
    void *tensors;                                 /* of its subgraph with nested operators; NULL: of several */
    void *operators;                               /* node of the first nested one */
    uint8_t levels[TFLNEST_TFLM_MAX_PAGES];        /* bits, increasing; as many pages */
    uint8_t level_count;
    uint8_t resident; /* one bit per page, page 0 in bit 0 */
    uint8_t missing;  /* pages that the file does not have */
} tflnest_tflm;

/* Open a file, before AllocateTensors of the interpreter that is to run it. Its nested operators find it by
 * themselves. Two interpreters of one file need it opened twice: each one before AllocateTensors.
 *
 * model Stays in use until it is closed, which must be before the arena is used for anything else.
 * file  The whole `.tflite` file, where the interpreter has it.
 *
 * TFLNEST_ERROR_ARGUMENT: a pointer is NULL, or the model is open already.
 * TFLNEST_ERROR_SIZE:     the file is damaged, no nested one, of another format version, or has a controller;
 *                         MicroPrintf tells.
 */
tflnest_status tflnest_tflm_open(tflnest_tflm *model, const void *file, size_t size);

/* Close it; its operators go on at the levels that they have. */
void tflnest_tflm_close(tflnest_tflm *model);

/* Choose the level of the whole model, in bits: all operators, or none. Between invokes.
 *
 * TFLNEST_ERROR_ARGUMENT: no interpreter runs the model.
 * TFLNEST_ERROR_LEVEL:    there is no such level, or this runtime does not compute it.
 * TFLNEST_ERROR_RESIDENT: a page that it needs is not resident.
 */
tflnest_status tflnest_tflm_set_level(tflnest_tflm *model, uint32_t level);

/* Choose the level of one nested operator, in bits; the others keep theirs.
 *
 * index Of the operator among the nested ones, in the order in which they run.
 *
 * TFLNEST_ERROR_ARGUMENT: there is no such operator.
 * TFLNEST_ERROR_LEVEL:    the operator has no such level, or this runtime does not compute it.
 * TFLNEST_ERROR_RESIDENT: a page that it needs is not resident.
 */
tflnest_status tflnest_tflm_set_operator_level(tflnest_tflm *model, uint32_t index, uint32_t level);

/* Number of nested operators that the interpreter runs. */
uint32_t tflnest_tflm_operators(const tflnest_tflm *model);

/* Bits that a nested operator runs at; 0 where there is no such operator. */
uint32_t tflnest_tflm_operator_level(const tflnest_tflm *model, uint32_t index);

/* The pages that are resident, one bit each, page 0 in bit 0. */
uint32_t tflnest_tflm_resident(const tflnest_tflm *model);

/* Declare a page absent: nothing reads it any more, and its memory may be used for something else.
 *
 * TFLNEST_ERROR_PAGE:     there is no such page.
 * TFLNEST_ERROR_RESIDENT: it is absent already.
 * TFLNEST_ERROR_IN_USE:   an operator runs at a level that needs it.
 */
tflnest_status tflnest_tflm_page_out(tflnest_tflm *model, uint32_t page);

/* Make a page resident.
 *
 * image The page image (FORMAT.md, section 8.4), aligned to 8, which stays in use; NULL for the page in the file,
 *       which is trusted then.
 * size  Bytes of the image.
 *
 * TFLNEST_ERROR_ARGUMENT: the image is not aligned, or no interpreter runs the model.
 * TFLNEST_ERROR_PAGE:     there is no such page, or the file does not have it.
 * TFLNEST_ERROR_IN_USE:   it is resident.
 * TFLNEST_ERROR_SIZE:     it has another size.
 * TFLNEST_ERROR_CRC:      it is damaged.
 */
tflnest_status tflnest_tflm_page_in(tflnest_tflm *model, uint32_t page, const void *image, size_t size);

#ifdef __cplusplus
}

#include "tensorflow/lite/micro/micro_common.h"

namespace tflnest {

/* The nested operators, for `MicroMutableOpResolver::AddCustom` under their own names. */
const TFLMRegistration* Register_CONV_2D();
const TFLMRegistration* Register_DEPTHWISE_CONV_2D();
const TFLMRegistration* Register_FULLY_CONNECTED();

/* Add all of them; they count as three operators of the resolver. */
template <typename Resolver>
auto AddOperators(Resolver& resolver) -> decltype(resolver.AddCustom("", Register_CONV_2D()))
{
    auto status = resolver.AddCustom("TFLNEST_CONV_2D", Register_CONV_2D());
    if (static_cast<int>(status) == 0) {
        status = resolver.AddCustom("TFLNEST_DEPTHWISE_CONV_2D", Register_DEPTHWISE_CONV_2D());
    }
    if (static_cast<int>(status) == 0) {
        status = resolver.AddCustom("TFLNEST_FULLY_CONNECTED", Register_FULLY_CONNECTED());
    }
    return status;
}

}  // namespace tflnest
#endif

#endif
