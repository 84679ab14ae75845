/* A QEMU plugin that counts the instructions of marked regions.
 *
 * Arguments: start, stop     addresses of port_mark_start and port_mark_stop
 *            skip_from, skip_to   code that is not counted: handlers, and the marks themselves
 *            out             file to which a line is appended when a region ends: id instructions loads stores
 *            memory=1        count loads and stores too, which takes longer; else they are 0
 *
 * A mark loads one byte from 4 + id bytes after its symbol, which is how the plugin learns the id: this version of
 * the interface does not show registers. The declarations below restate version 1 of QEMU's plugin interface
 * (docs/devel/tcg-plugins.rst), whose header is not packaged; QEMU refuses a plugin of a version it does not have.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };
typedef void (*translation_callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*memory_callback)(unsigned int processor, qemu_plugin_meminfo_t info, uint64_t address, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translation_callback callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *instruction, enum qemu_plugin_op operation,
                                                void *counter, uint64_t operand);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *instruction, memory_callback callback,
                                      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw access, void *data);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);

EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments);

#define ID_LIMIT 1024u   /* PORT_MARK_LIMIT of port.h */
#define ID_OFFSET 4u     /* what a Thumb instruction reads as pc, beyond its own address */
#define MARK_BYTES 6u    /* three instructions */

typedef struct {
    uint64_t instructions;
    uint64_t loads;
    uint64_t stores;
} counters;

static counters now;
static counters begun[ID_LIMIT];
static bool is_open[ID_LIMIT];
static uint64_t start_mark, stop_mark, skip_from, skip_to;
static bool with_memory;
static FILE *out;

static void on_start(unsigned int processor, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    uint64_t id = address - start_mark - ID_OFFSET;

    (void)processor;
    (void)info;
    (void)data;
    if (id < ID_LIMIT) {
        begun[id] = now;
        is_open[id] = true;
    }
}

static void on_stop(unsigned int processor, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    uint64_t id = address - stop_mark - ID_OFFSET;

    (void)processor;
    (void)info;
    (void)data;
    if (id >= ID_LIMIT || !is_open[id]) {
        return;
    }
    is_open[id] = false;
    fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", id,
            now.instructions - begun[id].instructions, now.loads - begun[id].loads, now.stores - begun[id].stores);
    fflush(out);
}

static void on_access(unsigned int processor, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    (void)processor;
    (void)address;
    (void)data;
    if (qemu_plugin_mem_is_store(info)) {
        now.stores++;
    } else {
        now.loads++;
    }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    size_t count = qemu_plugin_tb_n_insns(block);

    (void)id;
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint64_t at = qemu_plugin_insn_vaddr(instruction);

        if (at - start_mark < MARK_BYTES) {
            qemu_plugin_register_vcpu_mem_cb(instruction, on_start, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
        } else if (at - stop_mark < MARK_BYTES) {
            qemu_plugin_register_vcpu_mem_cb(instruction, on_stop, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
        } else if (at < skip_from || at >= skip_to) {
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, QEMU_PLUGIN_INLINE_ADD_U64, &now.instructions, 1);
            if (with_memory) {
                /* A callback, not two inline counters: QEMU 7.2 does not filter those by direction. Likewise it
                 * does not call back for loads that are registered as QEMU_PLUGIN_MEM_R. */
                qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
                                                 NULL);
            }
        }
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments)
{
    const char *path = NULL;

    (void)info;
    for (int i = 0; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        size_t length;

        if (value == NULL) {
            return 1;
        }
        length = (size_t)(value - arguments[i]);
        value++;
        if (strncmp(arguments[i], "out", length) == 0) {
            path = value;
        } else if (strncmp(arguments[i], "start", length) == 0) {
            start_mark = strtoull(value, NULL, 0);
        } else if (strncmp(arguments[i], "stop", length) == 0) {
            stop_mark = strtoull(value, NULL, 0);
        } else if (strncmp(arguments[i], "skip_from", length) == 0) {
            skip_from = strtoull(value, NULL, 0);
        } else if (strncmp(arguments[i], "skip_to", length) == 0) {
            skip_to = strtoull(value, NULL, 0);
        } else if (strncmp(arguments[i], "memory", length) == 0) {
            with_memory = true;
        } else {
            return 1;
        }
    }
    out = path == NULL ? NULL : fopen(path, "a");
    if (out == NULL) {
        fprintf(stderr, "instruction_count: %s cannot be written\n", path == NULL ? "(no file)" : path);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
