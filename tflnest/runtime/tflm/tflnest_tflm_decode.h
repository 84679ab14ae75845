/* Nested filters for the kernels that an application has: TensorFlow Lite for Microcontrollers decodes them.
 *
 * `tflnest export --for tflm-decode` writes such a file: its operators are stock ones, and TFLM_DECODE operators write the
 * filters of one level for them. TFLM must let applications add types of encodings
 * (`MicroInterpreter::SetCustomDecodeRegistrations`, from October 2026). Compile the component's files with the
 * application:
 *
 *     resolver.AddDecode();
 *     MicroInterpreter interpreter(model, resolver, arena, arena_size);
 *     tflnest::RegisterDecode(interpreter);
 *     interpreter.AllocateTensors();
 *
 * The file then runs at its highest level. To choose levels and pages, open it before AllocateTensors:
 *
 *     static tflnest_decoded decoded;
 *     tflnest_decoded_open(&decoded, model_data, model_size);
 *     tflnest_decoded_set_level(&decoded, 4);
 *
 * An opened file is also checked more: nothing that is decoded is then read beyond the file's end.
 */
#ifndef TFLNEST_TFLM_DECODE_H
#define TFLNEST_TFLM_DECODE_H

#include "tflnest/tflnest_types.h"

#define TFLNEST_DECODED_MAX_PAGES 8u

#ifdef __cplusplus
extern "C" {
#endif

/* A file that an interpreter runs. Static memory of the application, which outlives the interpreter; only for the
 * functions below. */
typedef struct tflnest_decoded {
    struct tflnest_decoded *next;
    const uint8_t *file;
    size_t size;
    const uint8_t *pages;                            /* their table in the file */
    const uint8_t *images[TFLNEST_DECODED_MAX_PAGES]; /* of pages that came in from elsewhere, or NULL */
    const void *context;                             /* of the interpreter */
    void *first;                                     /* of its decoders */
    void *last;
    uint8_t level_count;
    uint8_t level;    /* that was chosen, by its position; level_count: none */
    uint8_t resident; /* one bit per page, page 0 in bit 0 */
    uint8_t missing;  /* pages that the file does not have */
    uint8_t is_ready; /* 1: tensors that are set up from now on are allocated anew */
} tflnest_decoded;

/* Open a file, before AllocateTensors of the interpreter that is to run it. Two interpreters of one file need it opened
 * twice: each one before AllocateTensors.
 *
 * decoded Stays in use until it is closed, which must be before the arena is used for anything else.
 * file    The whole `.tflite` file, where the interpreter has it.
 *
 * TFLNEST_ERROR_ARGUMENT: a pointer is NULL, or `decoded` is open already.
 * TFLNEST_ERROR_SIZE:     the file is damaged, was not exported for this, or by another version; MicroPrintf tells.
 */
tflnest_status tflnest_decoded_open(tflnest_decoded *decoded, const void *file, size_t size);

/* Close it; an interpreter goes on at the levels that it has. */
void tflnest_decoded_close(tflnest_decoded *decoded);

/* Choose the level of the whole model, in bits: before AllocateTensors, or between invokes. All operators, or none.
 *
 * TFLNEST_ERROR_ARGUMENT: the file is not open.
 * TFLNEST_ERROR_LEVEL:    it has no such level.
 * TFLNEST_ERROR_RESIDENT: a page that it needs is not resident.
 */
tflnest_status tflnest_decoded_set_level(tflnest_decoded *decoded, uint32_t level);

/* Choose the level of one operator, in bits; the others keep theirs. Between invokes.
 *
 * index Of the operator among those whose filters are decoded, in the order in which they run.
 *
 * TFLNEST_ERROR_ARGUMENT: there is no such operator.
 * TFLNEST_ERROR_LEVEL:    the operator has no such level.
 * TFLNEST_ERROR_RESIDENT: a page that it needs is not resident.
 */
tflnest_status tflnest_decoded_set_operator_level(tflnest_decoded *decoded, uint32_t index, uint32_t level);

/* Number of operators whose filters are decoded; 0 before AllocateTensors. */
uint32_t tflnest_decoded_operators(const tflnest_decoded *decoded);

/* Bits that such an operator runs at; 0 where there is no such operator. */
uint32_t tflnest_decoded_operator_level(const tflnest_decoded *decoded, uint32_t index);

/* The pages that are resident, one bit each, page 0 in bit 0. */
uint32_t tflnest_decoded_resident(const tflnest_decoded *decoded);

/* Declare a page absent: nothing reads it any more.
 *
 * TFLNEST_ERROR_PAGE:     there is no such page.
 * TFLNEST_ERROR_RESIDENT: it is absent already.
 * TFLNEST_ERROR_IN_USE:   the level that was chosen, or an operator, needs it; page 0 is always needed.
 */
tflnest_status tflnest_decoded_page_out(tflnest_decoded *decoded, uint32_t page);

/* Make a page resident.
 *
 * image The page image of the nested file (FORMAT.md, section 8.4), aligned to 8, which stays in use; NULL for the page
 *       in the file, which is trusted then.
 * size  Bytes of the image.
 *
 * TFLNEST_ERROR_ARGUMENT: the image is not aligned, or the file is not open.
 * TFLNEST_ERROR_PAGE:     there is no such page, or the file does not have it.
 * TFLNEST_ERROR_IN_USE:   it is resident.
 * TFLNEST_ERROR_SIZE:     it has another size.
 * TFLNEST_ERROR_CRC:      it is damaged.
 */
tflnest_status tflnest_decoded_page_in(tflnest_decoded *decoded, uint32_t page, const void *image, size_t size);

#ifdef __cplusplus
}

#include <stddef.h>

#include "tensorflow/lite/micro/micro_common.h"

/* TFLM has its names in `tflite` and the global namespace until October 2026, and in `tflite::micro` since. */
namespace tflite {
namespace micro {}
}  // namespace tflite

namespace tflnest {
namespace decoding {

using namespace ::tflite;
using namespace ::tflite::micro;

/* What the decoder of one tensor keeps, in the arena. */
struct Decoder {
    Decoder *next;
    tflnest_decoded *model;   /* nullptr: the file is not open */
    const uint8_t *ancillary; /* checked */
    uint32_t elements;
    uint8_t position; /* of the level */
    bool is_bias;
};

/* Check everything, once, and choose a level. */
TfLiteStatus SetUp(Decoder *decoder, const TfLiteContext *context, const TfLiteTensor &input,
                   const TfLiteTensor &ancillary, const TfLiteTensor &output);

/* Write what the level has. */
TfLiteStatus Decode(const Decoder &decoder, const TfLiteEvalTensor &input, const TfLiteEvalTensor &output);

}  // namespace decoding
}  // namespace tflnest

#if defined(__has_include) && __has_include("tensorflow/lite/micro/kernels/decode_state.h")

#include <new>
#include <type_traits>

#include "tensorflow/lite/micro/kernels/decode_state.h"
#include "tensorflow/lite/micro/micro_context.h"
#include "tflnest_decode_format.h"

namespace tflnest {
namespace decoding {

/* Whether TFLM takes types of applications. */
template <typename Context, typename = void>
struct TakesTypes : std::false_type {};
template <typename Context>
struct TakesTypes<Context, std::void_t<typename Context::CustomDecodeRegistration>> : std::true_type {};

/* The function that makes a decoder: versions of TFLM call it differently. */
template <typename Registration>
constexpr auto MakerOf(Registration &registration, int) -> decltype((registration.create_state))
{
    return registration.create_state;
}
template <typename Registration>
constexpr auto MakerOf(Registration &registration, long) -> decltype((registration.func))
{
    return registration.func;
}

/* What that function is called with, in whatever order, as pointers or as references. */
struct Arguments {
    const TfLiteContext *context = nullptr;
    MicroProfilerInterface *profiler = nullptr;

    template <typename Argument>
    void Take(Argument &argument)
    {
        if constexpr (std::is_convertible<Argument &, const TfLiteContext *>::value) {
            context = argument;
        } else if constexpr (std::is_convertible<Argument *, const TfLiteContext *>::value) {
            context = &argument;
        } else if constexpr (std::is_convertible<Argument &, MicroProfilerInterface *>::value) {
            profiler = argument;
        } else if constexpr (std::is_convertible<Argument *, MicroProfilerInterface *>::value) {
            profiler = &argument;
        }
    }
};

/* A decoder as TFLM calls it. */
template <typename Base>
class State : public Base {
  public:
    State(const TfLiteContext *context, MicroProfilerInterface *profiler) : Base(context, profiler) {}

    TfLiteStatus Setup(const TfLiteTensor &input, const TfLiteTensor &ancillary, const TfLiteTensor &output) override
    {
        return SetUp(&decoder_, this->context_, input, ancillary, output);
    }

    TfLiteStatus Decode(const TfLiteEvalTensor &input, const TfLiteEvalTensor &,
                        const TfLiteEvalTensor &output) override
    {
        return decoding::Decode(decoder_, input, output);
    }

  private:
    static void operator delete(void *) {} /* it lies in the arena */

    Decoder decoder_ = {};
};

template <typename Function>
struct Maker;
template <typename Base, typename... Given>
struct Maker<Base *(*)(Given...)> {
    static Base *Make(Given... given)
    {
        Arguments arguments;
        (arguments.Take(given), ...);
        auto *context = const_cast<TfLiteContext *>(arguments.context);
        void *memory = context->AllocatePersistentBuffer(context, sizeof(State<Base>));
        return memory == nullptr ? nullptr : new (memory) State<Base>(context, arguments.profiler);
    }
};

/* What TFLM is told of the type of tflnest, for an application that has types of its own besides. */
template <typename Context = MicroContext>
constexpr auto DecodeRegistration()
{
    static_assert(TakesTypes<Context>::value,
                  "this TensorFlow Lite Micro does not let applications decode filters: take one of October 2026 or "
                  "later, or the operators of tflnest_tflm.h and the nested file");
    if constexpr (TakesTypes<Context>::value) {
        typename Context::CustomDecodeRegistration registration{};
        auto &maker = MakerOf(registration, 0);
        maker = &Maker<std::remove_reference_t<decltype(maker)>>::Make;
        registration.type = TFLNEST_DECODE_TYPE;
        return registration;
    }
}

/* Let an interpreter decode nested filters, before AllocateTensors. TFLM takes the types of an application once: one that
 * has others calls `SetCustomDecodeRegistrations` itself, with `DecodeRegistration()` among them. */
template <typename Interpreter, typename Context = MicroContext>
auto RegisterDecode(Interpreter &interpreter)
{
    if constexpr (TakesTypes<Context>::value) {
        static constexpr auto registration = DecodeRegistration<Context>();
        return interpreter.SetCustomDecodeRegistrations(&registration, 1);
    } else {
        return DecodeRegistration<Context>();
    }
}

}  // namespace decoding

using decoding::DecodeRegistration;
using decoding::RegisterDecode;

}  // namespace tflnest

#else

namespace tflnest {

template <typename Interpreter>
void RegisterDecode(Interpreter &)
{
    static_assert(sizeof(Interpreter) == 0,
                  "this TensorFlow Lite Micro does not let applications decode filters: take one of October 2026 or "
                  "later, or the operators of tflnest_tflm.h and the nested file");
}

}  // namespace tflnest

#endif

#endif

#endif
