#include "log/frame.h"

#include <string.h>

static uint32_t header_crc(const uint8_t *header, const struct flume_place *place) {
  uint8_t where[32];
  memcpy(where, place->log_id, 16);
  flume_put_le64(where + 16, (uint64_t)place->segment_seq);
  flume_put_le64(where + 24, place->off);
  return flume_crc32c(flume_crc32c(0, where, sizeof where), header + 8, FLUME_FRAME_HEADER_BYTES - 8);
}

void flume_frame_put(uint8_t *header, const struct flume_frame *frame, const struct flume_place *place) {
  memset(header, 0, FLUME_FRAME_HEADER_BYTES);
  flume_put_le32(header, FLUME_FRAME_MAGIC);
  flume_put_le16(header + 8, frame->kind);
  flume_put_le16(header + 10, frame->flags);
  flume_put_le32(header + 12, frame->count);
  flume_put_le32(header + 16, frame->body_bytes);
  flume_put_le64(header + 24, (uint64_t)frame->first_seq);
  flume_put_le64(header + 32, frame->time_ms);
  flume_put_le64(header + 40, frame->durable_off);
  flume_put_le32(header + 4, header_crc(header, place));
}

int flume_frame_get(const uint8_t *header, struct flume_frame *frame, const struct flume_place *place,
                    const char **why) {
  if (flume_get_le32(header) != FLUME_FRAME_MAGIC) {
    *why = "no frame begins here";
    return FLUME_ECORRUPT;
  }
  if (flume_get_le32(header + 4) != header_crc(header, place)) {
    *why = "frame header checksum mismatch";
    return FLUME_ECORRUPT;
  }
  *frame = (struct flume_frame){
      .kind = flume_get_le16(header + 8),
      .flags = flume_get_le16(header + 10),
      .count = flume_get_le32(header + 12),
      .body_bytes = flume_get_le32(header + 16),
      .first_seq = (int64_t)flume_get_le64(header + 24),
      .time_ms = flume_get_le64(header + 32),
      .durable_off = flume_get_le64(header + 40),
  };
  if (frame->first_seq < 0 || frame->first_seq > INT64_MAX - UINT32_MAX) {
    *why = "frame with an impossible seq";
    return FLUME_ECORRUPT;
  }
  return 0;
}

#define CHECKSUM_ROUND 64 /* records that are checksummed side by side */

uint8_t *flume_records_put(uint8_t *out, uint32_t at, const struct flume_slice *records, size_t count,
                           int64_t first_seq, uint32_t *offsets) {
  struct flume_crc32c_job jobs[CHECKSUM_ROUND];
  const uint8_t *start = out;
  for (size_t done = 0; done < count;) {
    size_t round = count - done < CHECKSUM_ROUND ? count - done : CHECKSUM_ROUND;
    uint8_t *p = out;
    for (size_t i = 0; i < round; i++) {
      const struct flume_slice *record = &records[done + i];
      uint32_t len = (uint32_t)record->len;
      offsets[done + i] = at + (uint32_t)(p - start);
      flume_put_le32(p, len);
      p += FLUME_RECORD_HEADER_BYTES;
      if (len > 0) memcpy(p, record->data, len);
      jobs[i] = (struct flume_crc32c_job){p, len, flume_record_seed(first_seq + (int64_t)(done + i), len)};
      p += len;
    }
    flume_crc32c_many(jobs, round);
    for (size_t i = 0; i < round; i++) flume_put_le32((uint8_t *)jobs[i].data - 4, jobs[i].crc);
    done += round;
    out = p;
  }
  return out;
}

uint32_t flume_records_check(const uint8_t *base, size_t len, uint32_t *offsets, uint32_t count, int64_t first_seq) {
  struct flume_crc32c_job jobs[CHECKSUM_ROUND];
  uint32_t which[CHECKSUM_ROUND];
  for (uint32_t done = 0; done < count;) {
    uint32_t round = 0, i = done, bad = UINT32_MAX;
    for (; i < count && round < CHECKSUM_ROUND; i++) {
      if (offsets[i] == FLUME_BLOCK_GONE) continue;
      size_t off = offsets[i];
      if (off > len || len - off < FLUME_RECORD_HEADER_BYTES) break;
      uint32_t record_len = flume_get_le32(base + off);
      if (len - off - FLUME_RECORD_HEADER_BYTES < record_len) {
        if (!flume_record_is_removed(base + off, first_seq + i)) break;
        offsets[i] = FLUME_BLOCK_GONE;
        continue;
      }
      which[round] = i;
      jobs[round++] = (struct flume_crc32c_job){base + off + FLUME_RECORD_HEADER_BYTES, record_len,
                                                flume_record_seed(first_seq + i, record_len)};
    }
    if (i < count && round < CHECKSUM_ROUND) bad = i;
    flume_crc32c_many(jobs, round);
    for (uint32_t k = 0; k < round; k++) {
      if (jobs[k].crc != flume_get_le32(jobs[k].data - 4)) return which[k];
    }
    if (bad != UINT32_MAX) return bad;
    done = i;
  }
  return count;
}
