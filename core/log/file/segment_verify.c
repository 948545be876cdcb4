#include "log/file/segment_verify.h"

#include <string.h>

#define SKIPPED_MAX 128              /* records lost in a row, behind which a good one is still recognised */
#define SEARCHED_BYTES (64u << 10)   /* a larger record is not looked for, only found where it should be */
#define SKIPPED_MAX_BYTES (4u << 10) /* of a record that may be any of those */

void flume_verify_init(struct flume_verify *verify, const struct flume_segment *segment, uint64_t end_off, bool last,
                       int64_t bound_seq, const struct flume_verify_ops *ops, void *arg) {
  *verify = (struct flume_verify){.segment = segment,
                                  .ops = ops,
                                  .arg = arg,
                                  .last = last,
                                  .bound_seq = bound_seq,
                                  .off = FLUME_SEGMENT_HEADER_BYTES,
                                  .next_seq = segment->first_seq,
                                  .indexed_seq = segment->first_seq};
  flume_window_init(&verify->window, segment->io, segment->file, end_off);
  flume_buf_init(&verify->offsets, segment->io);
  flume_buf_init(&verify->doubts, segment->io);
}

void flume_verify_fini(struct flume_verify *verify) {
  flume_window_fini(&verify->window);
  flume_buf_fini(&verify->offsets);
  flume_buf_fini(&verify->doubts);
}

static int problem(const struct flume_verify *verify, uint64_t off, const char *what) {
  return verify->ops->problem(verify->arg, off, verify->next_seq, what);
}

/* --- Doubts -------------------------------------------------------------------------------------------------- */

static int doubt(struct flume_verify *verify, const char *why) {
  struct flume_doubt doubt = {verify->off, verify->next_seq, why};
  return flume_buf_append(&verify->doubts, &doubt, sizeof doubt);
}

static bool is_in_doubt(const struct flume_verify *verify, uint64_t off) {
  for (size_t at = 0; at < verify->doubts.len; at += sizeof(struct flume_doubt)) {
    struct flume_doubt each;
    memcpy(&each, verify->doubts.data + at, sizeof each);
    if (each.off == off) return true;
  }
  return false;
}

static int tell_damage(const struct flume_verify *verify, const struct flume_doubt *doubt) {
  return verify->ops->problem(verify->arg, doubt->off, doubt->seq, doubt->why);
}

static int tell_remnant(const struct flume_verify *verify, const struct flume_doubt *doubt) {
  return verify->ops->remnant(verify->arg, doubt->off, doubt->seq);
}

static int settle_doubts(struct flume_verify *verify,
                         int (*tell)(const struct flume_verify *verify, const struct flume_doubt *doubt)) {
  int rv = 0;
  for (size_t at = 0; at < verify->doubts.len && rv == 0; at += sizeof(struct flume_doubt)) {
    struct flume_doubt each;
    memcpy(&each, verify->doubts.data + at, sizeof each);
    rv = tell(verify, &each);
  }
  verify->doubts.len = 0;
  return rv;
}

/* --- Records ------------------------------------------------------------------------------------------------- */

static int note_offset(struct flume_verify *verify, uint32_t off) {
  return flume_buf_append(&verify->offsets, &off, sizeof off);
}

static int lose(struct flume_verify *verify, int64_t until_seq) {
  int64_t count = until_seq - verify->next_seq;
  if (count <= 0) return 0;
  int64_t seq = verify->next_seq;
  verify->next_seq = until_seq;
  int64_t room = (int64_t)(verify->window.file_bytes / FLUME_RECORD_HEADER_BYTES); /* no file has more records */
  for (int64_t i = 0; i < count && i < room; i++) {
    if (note_offset(verify, 0) != 0) return FLUME_ENOMEM;
  }
  return verify->ops->lost(verify->arg, seq, count);
}

static int take(struct flume_verify *verify, uint64_t off, const uint8_t *bytes, size_t len) {
  if (note_offset(verify, (uint32_t)off) != 0) return FLUME_ENOMEM;
  int64_t seq = verify->next_seq++;
  if (flume_get_le32(bytes) == FLUME_RECORD_REMOVED) verify->removed_count++;
  return verify->ops->record(verify->arg, seq, bytes, len);
}

static bool is_whole(const uint8_t *bytes, uint32_t len, int64_t seq) {
  return flume_crc32c(flume_record_seed(seq, len), bytes + FLUME_RECORD_HEADER_BYTES, len) == flume_get_le32(bytes + 4);
}

/* Whether record next_seq stands whole at off: 1 and its bytes; 0, and why not; an error. */
static int record_at(struct flume_verify *verify, uint64_t off, uint64_t end_off, const uint8_t **bytes, size_t *len,
                     const char **why) {
  *why = "frame that ends within a record";
  if (end_off - off < FLUME_RECORD_HEADER_BYTES) return 0;
  int rv = flume_window_get(&verify->window, off, FLUME_RECORD_HEADER_BYTES, bytes);
  if (rv != 0) return rv;
  *len = FLUME_RECORD_HEADER_BYTES;
  if (flume_record_is_removed(*bytes, verify->next_seq)) return 1;
  uint32_t record_len = flume_get_le32(*bytes);
  if (end_off - off - FLUME_RECORD_HEADER_BYTES < record_len) return 0;
  *len += record_len;
  rv = flume_window_get(&verify->window, off, *len, bytes);
  if (rv != 0) return rv;
  *why = "record checksum mismatch";
  return is_whole(*bytes, record_len, verify->next_seq);
}

/* Whether one of the records from next_seq on stands whole at off, which may be any place: 1, its seq and bytes; 0; an
 * error. */
static int find_record(struct flume_verify *verify, uint64_t off, uint64_t end_off, int64_t until_seq, int64_t *seq,
                       const uint8_t **bytes, size_t *len) {
  int rv = flume_window_get(&verify->window, off, FLUME_RECORD_HEADER_BYTES, bytes);
  if (rv != 0) return rv;
  uint32_t record_len = flume_get_le32(*bytes);
  bool removed = record_len == FLUME_RECORD_REMOVED;
  if (removed) record_len = 0;
  if (record_len > SEARCHED_BYTES || end_off - off - FLUME_RECORD_HEADER_BYTES < record_len) return 0;
  *len = FLUME_RECORD_HEADER_BYTES + (size_t)record_len;
  rv = flume_window_get(&verify->window, off, *len, bytes);
  if (rv != 0) return rv;
  int64_t skipped_max = record_len <= SKIPPED_MAX_BYTES ? SKIPPED_MAX : 1;
  for (int64_t i = 0; i <= skipped_max && verify->next_seq + i < until_seq; i++) {
    *seq = verify->next_seq + i;
    if (removed ? flume_record_is_removed(*bytes, *seq) : is_whole(*bytes, record_len, *seq)) return 1;
  }
  return 0;
}

/* The good records between off and end_off; those up to until_seq that are not there are lost. */
static int salvage(struct flume_verify *verify, uint64_t off, uint64_t end_off, int64_t until_seq) {
  const uint8_t *bytes;
  const char *why;
  size_t len;
  while (verify->next_seq < until_seq && off + FLUME_RECORD_HEADER_BYTES <= end_off) {
    int64_t seq = verify->next_seq;
    int rv = record_at(verify, off, end_off, &bytes, &len, &why);
    if (rv == 0) rv = find_record(verify, off, end_off, until_seq, &seq, &bytes, &len);
    if (rv < 0) return rv;
    if (rv == 0) {
      off++;
      continue;
    }
    rv = lose(verify, seq);
    if (rv == 0) rv = take(verify, off, bytes, len);
    if (rv != 0) return rv;
    off += len;
  }
  return lose(verify, until_seq);
}

/* --- Frames -------------------------------------------------------------------------------------------------- */

static int verify_records(struct flume_verify *verify, const struct flume_frame *frame, uint64_t off) {
  uint64_t end_off = off + frame->body_bytes;
  int64_t until_seq = frame->first_seq + frame->count;
  int rv = verify->ops->frame(verify->arg, frame->time_ms);
  while (rv == 0 && verify->next_seq < until_seq) {
    const uint8_t *bytes;
    const char *why;
    size_t len;
    rv = record_at(verify, off, end_off, &bytes, &len, &why);
    if (rv == 1) {
      rv = take(verify, off, bytes, len);
      off += len;
    } else if (rv == 0) {
      rv = problem(verify, off, why);
      return rv == 0 ? salvage(verify, off, end_off, until_seq) : rv;
    }
  }
  return rv == 0 && off != end_off ? problem(verify, off, "frame with bytes after its last record") : rv;
}

static int verify_data(struct flume_verify *verify, const struct flume_frame *frame) {
  if (frame->first_seq < verify->next_seq)
    return problem(verify, verify->off, "frame with seqs that were there before");
  if (frame->first_seq > verify->next_seq) {
    int rv = problem(verify, verify->off, "records are missing before this frame");
    if (rv == 0) rv = lose(verify, frame->first_seq);
    if (rv != 0) return rv;
  }
  return verify_records(verify, frame, verify->off + FLUME_FRAME_HEADER_BYTES);
}

static bool covers_all(const struct flume_verify *verify, const struct flume_frame *frame, const uint8_t *body) {
  return frame->first_seq == verify->segment->first_seq && flume_get_le64(body + 4) == 0;
}

/* An index goes on where the one before it ended, or covers all anew. Each offset is the one where the record was
 * found. */
static bool index_is_right(const struct flume_verify *verify, const struct flume_frame *frame, const uint8_t *body) {
  bool goes_on = frame->first_seq == verify->indexed_seq && flume_get_le64(body + 4) == verify->index_off;
  if (!(goes_on || covers_all(verify, frame, body)) || frame->first_seq + frame->count != verify->next_seq ||
      frame->body_bytes != 12 + (uint64_t)frame->count * 4) {
    return false;
  }
  size_t from = (size_t)(frame->first_seq - verify->segment->first_seq);
  if (verify->offsets.len / 4 < from + frame->count) return false;
  for (uint32_t i = 0; i < frame->count; i++) {
    uint32_t off;
    memcpy(&off, verify->offsets.data + (from + i) * 4, sizeof off);
    if (off != 0 && flume_get_le32(body + 12 + (size_t)i * 4) != off) return false;
  }
  return true;
}

static int verify_index(struct flume_verify *verify, const struct flume_frame *frame, const uint8_t *body) {
  bool right = index_is_right(verify, frame, body);
  verify->index_off = verify->off;
  verify->indexed_seq = verify->next_seq;
  if (!right) return problem(verify, verify->off, "index that is not of the records before it");
  return covers_all(verify, frame, body) ? settle_doubts(verify, tell_remnant) : 0;
}

static int verify_end(struct flume_verify *verify, const struct flume_frame *frame, const uint8_t *body) {
  verify->ended = true;
  verify->sealed = (frame->flags & FLUME_FRAME_SEALED) != 0;
  bool right = frame->body_bytes == 12 && frame->first_seq == verify->next_seq && frame->count == verify->removed_count;
  uint64_t index_off = flume_get_le64(body + 4);
  if (right && index_off == verify->index_off) return 0;
  const char *why = "end frame that is not of the records before it";
  return right && is_in_doubt(verify, index_off) ? doubt(verify, why) : problem(verify, verify->off, why);
}

/* An index or end frame. */
static int verify_body(struct flume_verify *verify, const struct flume_frame *frame) {
  const uint8_t *body;
  if (frame->body_bytes < 12) return problem(verify, verify->off, "frame too short for its kind");
  int rv = flume_window_get(&verify->window, verify->off + FLUME_FRAME_HEADER_BYTES, frame->body_bytes, &body);
  if (rv != 0) return rv;
  if (flume_get_le32(body) != flume_crc32c(0, body + 4, frame->body_bytes - 4)) {
    return problem(verify, verify->off, "frame checksum mismatch");
  }
  return frame->kind == FLUME_FRAME_INDEX ? verify_index(verify, frame, body) : verify_end(verify, frame, body);
}

/* What comes behind a bad place. */
struct sequel {
  uint64_t off; /* of the next good frame; the end of the file when there is none */
  int64_t seq;  /* up to which records stood before it */
  bool witness; /* a frame knows the bad place to have been on disk, or that nothing but an index is bad */
};

static int look_behind(struct flume_verify *verify, struct sequel *sequel) {
  *sequel = (struct sequel){.off = verify->window.file_bytes, .seq = verify->bound_seq};
  struct flume_frame frame;
  bool found = false;
  int rv = 0;
  for (uint64_t off = verify->off + 1; !sequel->witness; off++) {
    rv = flume__segment_find_frame(verify->segment, &verify->window, &off, &frame);
    if (rv != 1) break;
    if (flume_frame_next_seq(&frame) < verify->next_seq) continue;
    if (!found) *sequel = (struct sequel){.off = off, .seq = flume_frame_next_seq(&frame)};
    found = true;
    if (frame.durable_off > verify->off || sequel->seq == verify->next_seq) sequel->witness = true;
  }
  return rv < 0 ? rv : 0;
}

static int bad_place(struct flume_verify *verify, const char *why) {
  bool zeros;
  struct sequel sequel;
  int rv = flume__segment_is_zeros(&verify->window, verify->off, &zeros);
  if (rv == 0 && !zeros) rv = look_behind(verify, &sequel);
  if (rv != 0) return rv;
  bool acknowledged = !verify->last || verify->bound_seq > verify->next_seq;
  if (zeros || (!acknowledged && !sequel.witness)) {
    if (!zeros) verify->torn_off = verify->off;
    verify->off = verify->window.file_bytes;
    verify->ended = false;
    return 0;
  }
  bool recordless = sequel.off < verify->window.file_bytes && sequel.seq == verify->next_seq;
  rv = recordless ? doubt(verify, why) : problem(verify, verify->off, why);
  if (rv == 0 && sequel.seq > verify->next_seq) {
    rv = verify->ops->frame(verify->arg, 0);
    if (rv == 0) rv = salvage(verify, verify->off, sequel.off, sequel.seq);
  }
  verify->off = sequel.off;
  return rv;
}

static int verify_frame(struct flume_verify *verify) {
  uint64_t rest = verify->window.file_bytes - verify->off;
  struct flume_frame frame;
  const uint8_t *header;
  const char *why;
  if (rest < FLUME_FRAME_HEADER_BYTES) return bad_place(verify, "the file ends within a frame header");
  int rv = flume_window_get(&verify->window, verify->off, FLUME_FRAME_HEADER_BYTES, &header);
  if (rv != 0) return rv;
  struct flume_place place = {verify->segment->log_id, verify->segment->first_seq, verify->off};
  rv = flume_frame_get(header, &frame, &place, &why);
  if (rv != 0) return bad_place(verify, why);
  if (frame.body_bytes > rest - FLUME_FRAME_HEADER_BYTES) return bad_place(verify, "the file ends within a frame");
  verify->ended = verify->sealed = false;
  if (frame.kind == FLUME_FRAME_DATA) rv = verify_data(verify, &frame);
  else if (frame.kind == FLUME_FRAME_INDEX || frame.kind == FLUME_FRAME_END) rv = verify_body(verify, &frame);
  else rv = problem(verify, verify->off, "frame of an unknown kind");
  verify->off += FLUME_FRAME_HEADER_BYTES + (uint64_t)frame.body_bytes;
  return rv;
}

/* The records that should be there and are not. A segment that is still open has its index to come. */
static int finish(struct flume_verify *verify) {
  int rv = settle_doubts(verify, verify->last && !verify->ended ? tell_remnant : tell_damage);
  if (rv == 0 && verify->next_seq < verify->bound_seq) {
    rv = problem(verify, verify->off,
                 verify->last ? "records that were acknowledged are missing at the end"
                              : "records before the next segment are missing");
    if (rv == 0) rv = verify->ops->frame(verify->arg, 0);
    if (rv == 0) rv = lose(verify, verify->bound_seq);
  }
  if (rv == 0 && !verify->last && verify->next_seq > verify->bound_seq) {
    rv = problem(verify, verify->off, "records that the next segment has, too");
  }
  return rv;
}

int flume_verify_step(struct flume_verify *verify, uint64_t max_bytes) {
  uint64_t until = verify->off + max_bytes;
  while (verify->off < until) {
    if (verify->off >= verify->window.file_bytes) return finish(verify);
    int rv = verify_frame(verify);
    if (rv != 0) return rv;
  }
  return 1;
}
