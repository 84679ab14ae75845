/* CRC-32 as in zlib, Ethernet and the page directory of a nested file (FORMAT.md, section 8.5). */
#ifndef TFLNEST_CRC32_H
#define TFLNEST_CRC32_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The CRC-32 of some bytes, or its continuation.
 *
 * Polynomial 0xEDB88320 (reflected), all bits of the register inverted before and after. With
 * `crc = tflnest_crc32(0, a, n); crc = tflnest_crc32(crc, b, m);` the result is the CRC-32 of a followed by b.
 *
 * crc   0 to begin, or the CRC-32 of everything before.
 * data  `bytes` bytes; may be NULL where there are none.
 */
uint32_t tflnest_crc32(uint32_t crc, const void *data, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
