/* A model that does nothing: with it, what a board needs besides a model can be measured. */
#include "model.h"
#include "model_protocol.h"
#include "tflnest/tflnest_protocol_pager.h"

#ifdef STUB_SECTORS
#include "port.h"
#include "port_config.h"
#include "tflnest/tflnest_sectors.h"

static const tflnest_sectors sectors = {PORT_FLASH_SECTOR_BYTES, port_flash_erase, port_flash_program};
static const tflnest_page_store store = TFLNEST_SECTORS_STORE(&sectors);
#endif

static uint8_t data[16];
static const uint8_t levels[1] = {8};
static const tflnest_page pages[1] = {{NULL, NULL, 0, 0}};
static const tflnest_tensor tensors[1] = {{data, sizeof data}};

static void invoke(const uint8_t *at)
{
    (void)at;
}

const tflnest_model model = {
    .magic = TFLNEST_MODEL_MAGIC,
    .version = TFLNEST_MODEL_VERSION,
    .level_count = 1,
    .input_count = 1,
    .output_count = 1,
    .levels = levels,
    .pages = pages,
#ifdef STUB_SECTORS
    .store = &store,
#endif
    .inputs = tensors,
    .outputs = tensors,
    .invoke = invoke,
};

tflnest_pager model_pager;

tflnest_status model_start(void)
{
    return tflnest_pager_start(&model_pager, &model);
}

static uint32_t free_sram(void *context)
{
    return tflnest_pager_unused_bytes(context);
}

const tflnest_protocol_model model_protocol = {
    .identity = model.identity,
    .levels = levels,
    .level_count = 1,
    .context = &model_pager,
    .free_sram = free_sram,
    .resident = tflnest_protocol_pager_resident,
    .level = tflnest_protocol_pager_level,
    .operator_level = tflnest_protocol_pager_operator_level,
    .page_begin = tflnest_protocol_pager_page_begin,
    .page_write = tflnest_protocol_pager_page_write,
    .page_end = tflnest_protocol_pager_page_end,
    .page_out = tflnest_protocol_pager_page_out,
    .page_image = tflnest_protocol_pager_page_image,
    .page_found = tflnest_protocol_pager_page_found,
    .set_level = tflnest_protocol_pager_set_level,
    .set_operator_level = tflnest_protocol_pager_set_operator_level,
    .invoke = tflnest_protocol_pager_invoke,
};
