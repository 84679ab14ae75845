#include "tflnest/tflnest_pager.h"

#include <string.h>

#include "tflnest/tflnest_crc32.h"

#define PAGE_ALIGNMENT 8u

static const uint8_t *content(const tflnest_page *page)
{
    return page->image != NULL ? page->image : page->slot;
}

static int is_intact(const tflnest_page *page)
{
    const uint8_t *bytes = content(page);

    if (page->size == 0u) {
        return 1;
    }
    return bytes != NULL && tflnest_crc32(0u, bytes, page->size) == page->crc32;
}

static int is_stored(const tflnest_model *model, uint32_t page)
{
    return (model->stored_pages >> page & 1) != 0;
}

/* Whether a page can come. */
static int has_room(const tflnest_model *model, uint32_t page)
{
    return model->pages[page].slot != NULL || is_stored(model, page);
}

static int is_of(const tflnest_model *model, const uint8_t *identity)
{
    uint32_t differences = 0;

    for (uint32_t i = 0; i < TFLNEST_MODEL_IDENTITY_BYTES; i++) {
        differences |= (uint32_t)(identity[i] ^ model->identity[i]);
    }
    return differences == 0u;
}

/* Page 0 to `last`, one bit each. */
static uint8_t pages_to(uint32_t last)
{
    return (uint8_t)((2u << last) - 1u);
}

static int has_page(uint32_t pages, uint32_t page)
{
    return (pages >> page & 1u) != 0u;
}

/* ------------------------------------------------------------------------------------------------------ checks */

static int is_rising(const uint8_t *levels, uint32_t count)
{
    uint32_t before = 0;

    if (count == 0u || count > TFLNEST_MODEL_MAX_LEVELS || levels == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (levels[i] <= before || levels[i] > 8u) {
            return 0;
        }
        before = levels[i];
    }
    return 1;
}

static int is_sound_operator(const tflnest_model *model, const tflnest_model_operator *operator_)
{
    uint32_t page = 0;
    uint32_t position = 0;

    if (!is_rising(operator_->levels, operator_->level_count) || operator_->pages == NULL ||
        operator_->model_levels == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < operator_->level_count; i++) {
        if (operator_->pages[i] < page || operator_->pages[i] >= model->level_count) {
            return 0;
        }
        page = operator_->pages[i];
    }
    for (uint32_t i = 0; i < model->level_count; i++) {
        if (operator_->model_levels[i] < position || operator_->model_levels[i] >= operator_->level_count ||
            operator_->pages[operator_->model_levels[i]] > i) {
            return 0;
        }
        position = operator_->model_levels[i];
    }
    return 1;
}

static tflnest_status check(const tflnest_model *model)
{
    if (model->magic != TFLNEST_MODEL_MAGIC || model->version != TFLNEST_MODEL_VERSION ||
        !is_rising(model->levels, model->level_count) || model->pages == NULL || model->invoke == NULL ||
        (model->operator_count > 0u && (model->operators == NULL || model->positions == NULL)) ||
        (model->stored_pages != 0u && model->store == NULL)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    for (uint32_t i = 0; i < model->level_count; i++) {
        if (model->pages[i].size % PAGE_ALIGNMENT != 0u) {
            return TFLNEST_ERROR_SIZE;
        }
    }
    for (uint32_t i = 0; i < model->operator_count; i++) {
        if (!is_sound_operator(model, &model->operators[i])) {
            return TFLNEST_ERROR_ARGUMENT;
        }
    }
    return TFLNEST_OK;
}

/* ------------------------------------------------------------------------------------------------------ levels */

/* The pages that the present levels of the operators read. The base page holds what has no levels. */
static uint8_t needed_pages(const tflnest_model *model)
{
    uint32_t last = 0;

    for (uint32_t i = 0; i < model->operator_count; i++) {
        const uint32_t page = model->operators[i].pages[model->positions[i]];
        last = page > last ? page : last;
    }
    return pages_to(last);
}

static uint8_t pages_of_level(const tflnest_model *model, uint32_t position)
{
    uint32_t last = 0;

    for (uint32_t i = 0; i < model->operator_count; i++) {
        const tflnest_model_operator *operator_ = &model->operators[i];
        const uint32_t page = operator_->pages[operator_->model_levels[position]];
        last = page > last ? page : last;
    }
    return pages_to(last);
}

/* The position of a bit-width; `count` where it is not there. */
static uint32_t find(const uint8_t *levels, uint32_t count, uint32_t level)
{
    uint32_t position = 0;

    while (position < count && levels[position] != level) {
        position++;
    }
    return position;
}

static void take_level(tflnest_pager *pager, uint32_t position)
{
    const tflnest_model *model = pager->model;

    for (uint32_t i = 0; i < model->operator_count; i++) {
        model->positions[i] = model->operators[i].model_levels[position];
    }
    pager->level = (uint8_t)position;
    pager->is_mixed = 0;
    pager->needed = needed_pages(model);
}

/* The highest level whose pages are there; the base page is. */
static void take_highest_level(tflnest_pager *pager)
{
    uint32_t position = pager->model->level_count - 1u;

    while (position > 0u && (pages_of_level(pager->model, position) & ~(uint32_t)pager->resident) != 0u) {
        position--;
    }
    take_level(pager, position);
}

tflnest_status tflnest_pager_start(tflnest_pager *pager, const tflnest_model *model)
{
    const tflnest_status status = check(model);

    memset(pager, 0, sizeof *pager);
    pager->page = TFLNEST_PAGER_NO_PAGE;
    if (status != TFLNEST_OK) {
        return status;
    }
    for (uint32_t i = 0; i < model->level_count; i++) {
        const int is_dropped = is_stored(model, i) && model->store->is_dropped(model->store->context, &model->pages[i]);
        pager->resident |= (uint8_t)((uint32_t)(!is_dropped && is_intact(&model->pages[i])) << i);
    }
    if (!has_page(pager->resident, 0u) && !has_room(model, 0u)) {
        pager->resident = 0;
        return TFLNEST_ERROR_CRC;
    }
    pager->model = model;
    if (has_page(pager->resident, 0u)) {
        take_highest_level(pager);
    }
    return TFLNEST_OK;
}

uint32_t tflnest_pager_resident(const tflnest_pager *pager)
{
    return pager->resident;
}

uint32_t tflnest_pager_level(const tflnest_pager *pager)
{
    return pager->needed == 0u || pager->is_mixed ? 0u : pager->model->levels[pager->level];
}

uint32_t tflnest_pager_operator_level(const tflnest_pager *pager, uint32_t row)
{
    const tflnest_model *model = pager->model;

    return model == NULL || row >= model->operator_count ? 0u : model->operators[row].levels[model->positions[row]];
}

tflnest_status tflnest_pager_set_level(tflnest_pager *pager, uint32_t level)
{
    const tflnest_model *model = pager->model;
    uint32_t position;

    if (model == NULL) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    position = find(model->levels, model->level_count, level);
    if (position == model->level_count) {
        return TFLNEST_ERROR_LEVEL;
    }
    if ((pages_of_level(model, position) & ~(uint32_t)pager->resident) != 0u) {
        return TFLNEST_ERROR_RESIDENT;
    }
    take_level(pager, position);
    return TFLNEST_OK;
}

tflnest_status tflnest_pager_set_operator_level(tflnest_pager *pager, uint32_t row, uint32_t level)
{
    const tflnest_model *model = pager->model;
    const tflnest_model_operator *operator_;
    uint32_t position;

    if (model == NULL || row >= model->operator_count) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    operator_ = &model->operators[row];
    position = find(operator_->levels, operator_->level_count, level);
    if (position == operator_->level_count) {
        return TFLNEST_ERROR_LEVEL;
    }
    if ((pages_to(operator_->pages[position]) & ~(uint32_t)pager->resident) != 0u) {
        return TFLNEST_ERROR_RESIDENT;
    }
    if (model->positions[row] != position) {
        model->positions[row] = (uint8_t)position;
        pager->is_mixed = 1;
        pager->needed = needed_pages(model);
    }
    return TFLNEST_OK;
}

/* ------------------------------------------------------------------------------------------------------- pages */

tflnest_status tflnest_pager_begin(tflnest_pager *pager, const uint8_t *identity, uint32_t page, uint32_t size,
                                   uint32_t offset)
{
    const tflnest_model *model = pager->model;

    if (model == NULL) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if (!is_of(model, identity)) {
        return TFLNEST_ERROR_IDENTITY;
    }
    if (page >= model->level_count || !has_room(model, page)) {
        return TFLNEST_ERROR_PAGE;
    }
    if (size != model->pages[page].size || offset > size) {
        return TFLNEST_ERROR_SIZE;
    }
    if (has_page(pager->resident, page)) {
        return TFLNEST_ERROR_IN_USE;
    }
    pager->page = TFLNEST_PAGER_NO_PAGE;
    pager->is_erased = 0;
    if (is_stored(model, page)) {
        if (!model->store->accepts(model->store->context, &model->pages[page], offset)) {
            return TFLNEST_ERROR_ARGUMENT;
        }
        if (offset == 0u) {
            const tflnest_status status = model->store->erase(model->store->context, &model->pages[page], 0u);
            if (status != TFLNEST_OK) {
                return status;
            }
            pager->is_erased = 1;
        }
    }
    pager->page = (uint8_t)page;
    pager->offset = offset;
    return TFLNEST_OK;
}

/* Into flash. After a reset the sectors behind `offset` are erased only now: a start alone changes nothing. */
static tflnest_status program(tflnest_pager *pager, const tflnest_page *room, uint32_t offset, const uint8_t *bytes,
                              uint32_t count)
{
    const tflnest_page_store *store = pager->model->store;
    tflnest_status status = TFLNEST_OK;

    if (pager->is_erased == 0u) {
        status = store->erase(store->context, room, offset);
        pager->is_erased = 1;
    }
    return status == TFLNEST_OK ? store->program(store->context, room, offset, bytes, count) : status;
}

tflnest_status tflnest_pager_write(tflnest_pager *pager, uint32_t page, uint32_t offset, const uint8_t *bytes,
                                   uint32_t count)
{
    const tflnest_page *room;

    if (pager->page == TFLNEST_PAGER_NO_PAGE || page != pager->page) {
        return TFLNEST_ERROR_PAGE;
    }
    if (offset != pager->offset) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    room = &pager->model->pages[page];
    if (count > room->size - offset) {
        return TFLNEST_ERROR_SIZE;
    }
    if (is_stored(pager->model, page)) {
        const tflnest_status status = program(pager, room, offset, bytes, count);
        if (status != TFLNEST_OK) {
            pager->page = TFLNEST_PAGER_NO_PAGE;
            return status;
        }
    } else {
        memcpy(room->slot + offset, bytes, count);
    }
    pager->offset = offset + count;
    return TFLNEST_OK;
}

uint32_t tflnest_pager_offset(const tflnest_pager *pager)
{
    return pager->page == TFLNEST_PAGER_NO_PAGE ? 0u : pager->offset;
}

uint32_t tflnest_pager_found(const tflnest_pager *pager, uint32_t page)
{
    const tflnest_model *model = pager->model;

    if (model == NULL || page >= model->level_count || !is_stored(model, page) || has_page(pager->resident, page)) {
        return 0;
    }
    return model->store->find(model->store->context, &model->pages[page]);
}

uint32_t tflnest_pager_unused_bytes(const tflnest_pager *pager)
{
    const tflnest_model *model = pager->model;
    uint32_t total = 0;

    for (uint32_t i = 0; model != NULL && i < model->level_count; i++) {
        if (model->pages[i].slot != NULL && i != pager->page && !has_page(pager->resident, i)) {
            total += model->pages[i].size;
        }
    }
    return total;
}

tflnest_status tflnest_pager_complete(tflnest_pager *pager, uint32_t page)
{
    const tflnest_page *room;

    if (pager->page == TFLNEST_PAGER_NO_PAGE || page != pager->page) {
        return TFLNEST_ERROR_PAGE;
    }
    room = &pager->model->pages[page];
    if (pager->offset != room->size) {
        return TFLNEST_ERROR_SIZE;
    }
    pager->page = TFLNEST_PAGER_NO_PAGE;
    if (!is_intact(room)) {
        return TFLNEST_ERROR_CRC;
    }
    pager->resident |= (uint8_t)(1u << page);
    if (pager->needed == 0u && has_page(pager->resident, 0u)) {
        take_highest_level(pager);
    }
    return TFLNEST_OK;
}

/* Or it would be found intact after a reset. */
static tflnest_status spoil(const tflnest_model *model, uint32_t page)
{
    if (is_stored(model, page)) {
        return model->store->drop(model->store->context, &model->pages[page]);
    }
    if (model->pages[page].size > 0u) {
        model->pages[page].slot[0] ^= 0xFFu;
    }
    return TFLNEST_OK;
}

tflnest_status tflnest_pager_evict(tflnest_pager *pager, uint32_t page)
{
    const tflnest_model *model = pager->model;

    if (model == NULL || page >= model->level_count || !has_room(model, page)) {
        return TFLNEST_ERROR_PAGE;
    }
    if (page == pager->page) {
        pager->page = TFLNEST_PAGER_NO_PAGE;
        return is_stored(model, page) && pager->offset > 0u ? spoil(model, page) : TFLNEST_OK;
    }
    if (!has_page(pager->resident, page)) {
        return TFLNEST_ERROR_RESIDENT;
    }
    if (has_page(pager->needed, page)) {
        return TFLNEST_ERROR_IN_USE;
    }
    pager->resident &= (uint8_t)~(1u << page);
    return spoil(model, page);
}

tflnest_status tflnest_pager_verify(const tflnest_pager *pager, uint32_t page)
{
    const tflnest_model *model = pager->model;

    if (model == NULL || page >= model->level_count) {
        return TFLNEST_ERROR_PAGE;
    }
    if (!has_page(pager->resident, page)) {
        return TFLNEST_ERROR_RESIDENT;
    }
    return is_intact(&model->pages[page]) ? TFLNEST_OK : TFLNEST_ERROR_CRC;
}

tflnest_status tflnest_pager_invoke(tflnest_pager *pager)
{
    if (pager->model == NULL) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if (pager->needed == 0u) {
        return TFLNEST_ERROR_RESIDENT;
    }
    pager->model->invoke(pager->model->positions);
    return TFLNEST_OK;
}
