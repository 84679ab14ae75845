#include "tflnest/tflnest_protocol_pager.h"

uint32_t tflnest_protocol_pager_resident(void *context)
{
    return tflnest_pager_resident(context);
}

uint32_t tflnest_protocol_pager_level(void *context)
{
    return tflnest_pager_level(context);
}

uint32_t tflnest_protocol_pager_operator_level(void *context, uint32_t row)
{
    return tflnest_pager_operator_level(context, row);
}

tflnest_status tflnest_protocol_pager_page_begin(void *context, uint32_t page, uint32_t offset)
{
    tflnest_pager *pager = context;
    const tflnest_model *model = pager->model;

    if (model == NULL || page >= model->level_count) {
        return TFLNEST_ERROR_PAGE;
    }
    return tflnest_pager_begin(pager, model->identity, page, model->pages[page].size, offset);
}

tflnest_status tflnest_protocol_pager_page_write(void *context, uint32_t page, uint32_t offset, const uint8_t *bytes,
                                                 uint32_t count)
{
    return tflnest_pager_write(context, page, offset, bytes, count);
}

/* What came need not be what lies there: the pager looks at the bytes themselves. */
tflnest_status tflnest_protocol_pager_page_end(void *context, uint32_t page, uint32_t crc32)
{
    (void)crc32;
    return tflnest_pager_complete(context, page);
}

tflnest_status tflnest_protocol_pager_page_out(void *context, uint32_t page)
{
    return tflnest_pager_evict(context, page);
}

const uint8_t *tflnest_protocol_pager_page_image(void *context, uint32_t page)
{
    const tflnest_model *model = ((tflnest_pager *)context)->model;

    if (model == NULL || page >= model->level_count) {
        return NULL;
    }
    return model->pages[page].image != NULL ? model->pages[page].image : model->pages[page].slot;
}

uint32_t tflnest_protocol_pager_page_found(void *context, uint32_t page)
{
    return tflnest_pager_found(context, page);
}

tflnest_status tflnest_protocol_pager_set_level(void *context, uint32_t level)
{
    return tflnest_pager_set_level(context, level);
}

tflnest_status tflnest_protocol_pager_set_operator_level(void *context, uint32_t row, uint32_t level)
{
    return tflnest_pager_set_operator_level(context, row, level);
}

tflnest_status tflnest_protocol_pager_invoke(void *context)
{
    return tflnest_pager_invoke(context);
}
