/* Reading a segment from its first frame on, trusting nothing: how a log that was not closed in order is recovered.
 *
 * Happy path: one good frame follows another up to the end of the file, or up to the zeros that were written ahead.
 *
 * Failures: at a bad place, the frames behind it decide:
 *
 * - Is any record missing? Frames carry the seq of the record that comes next. If a good frame follows that has the
 *   expected seq, the bad one is an index or end frame, which holds no records: it is passed over.
 * - Was the bad place ever acknowledged? Each frame says up to which byte the file was on disk when it was written. If any
 *   frame behind the bad place says that the place was on disk, it is damage, and the scan says so.
 * - Otherwise it is a torn write, of which no caller was told that it had succeeded. (With sync = "always" every frame says
 *   that all before it was on disk, so any frame at all behind a bad one makes it damage.)
 *
 * Invariants: next_seq, end_off and the offsets describe good frames only. end_off never goes back. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/file_window.h"
#include "log/file/segment.h"

#define FOLLOW_BYTES (4u << 10) /* read at first, where little is expected */

#define BAD(text) (*why = (text), FLUME_ECORRUPT)

/* Checks the records of a data frame and notes their offsets; next_seq is moved on by the caller, removed_count too. */
static int scan_records(struct flume_segment *segment, struct flume_window *window, const struct flume_frame *frame,
                        uint64_t off, uint32_t *removed, const char **why) {
  uint64_t end = off + frame->body_bytes;
  if (frame->count == 0 || frame->count > frame->body_bytes / FLUME_RECORD_HEADER_BYTES) {
    return BAD("frame with an impossible number of records");
  }
  int rv = flume_segment_reserve(segment, frame->count);
  if (rv != 0) return rv;
  uint32_t *offsets = segment->offsets + (segment->next_seq - segment->offsets_seq);
  for (uint32_t i = 0; i < frame->count; i++) {
    const uint8_t *bytes;
    if (end - off < FLUME_RECORD_HEADER_BYTES) return BAD("frame that ends within a record");
    rv = flume_window_get(window, off, FLUME_RECORD_HEADER_BYTES, &bytes);
    if (rv != 0) return rv;
    uint32_t len = flume_get_le32(bytes);
    uint32_t crc = flume_get_le32(bytes + 4);
    offsets[i] = (uint32_t)off;
    if (flume_record_is_removed(bytes, segment->next_seq + i)) {
      ++*removed;
      off += FLUME_RECORD_HEADER_BYTES;
      continue;
    }
    if (end - off - FLUME_RECORD_HEADER_BYTES < len) return BAD("frame that ends within a record");
    rv = flume_window_get(window, off, FLUME_RECORD_HEADER_BYTES + (size_t)len, &bytes);
    if (rv != 0) return rv;
    uint32_t seed = flume_record_seed(segment->next_seq + i, len);
    if (flume_crc32c(seed, bytes + FLUME_RECORD_HEADER_BYTES, len) != crc) return BAD("record checksum mismatch");
    off += FLUME_RECORD_HEADER_BYTES + (uint64_t)len;
  }
  if (off != end) return BAD("frame with bytes after its last record");
  return 0;
}

/* Checks the body of an index or end frame: a checksum, and the bytes that it covers. */
static int scan_body(struct flume_window *window, const struct flume_frame *frame, uint64_t off, const char **why) {
  const uint8_t *bytes;
  if (frame->body_bytes < 12) return BAD("frame too short for its kind");
  int rv = flume_window_get(window, off, frame->body_bytes, &bytes);
  if (rv != 0) return rv;
  if (flume_get_le32(bytes) != flume_crc32c(0, bytes + 4, frame->body_bytes - 4)) return BAD("frame checksum mismatch");
  return 0;
}

static int scan_frame(struct flume_segment *segment, struct flume_window *window, const char **why) {
  uint64_t off = segment->end_off;
  uint64_t rest = segment->file_bytes - off;
  const uint8_t *header;
  if (rest < FLUME_FRAME_HEADER_BYTES) return BAD("the file ends within a frame header");
  int rv = flume_window_get(window, off, FLUME_FRAME_HEADER_BYTES, &header);
  if (rv != 0) return rv;
  struct flume_frame frame;
  uint32_t removed = 0;
  struct flume_place place = {segment->log_id, segment->first_seq, off};
  rv = flume_frame_get(header, &frame, &place, why);
  if (rv != 0) return rv;
  if (frame.body_bytes > rest - FLUME_FRAME_HEADER_BYTES) return BAD("the file ends within a frame");
  uint64_t body_off = off + FLUME_FRAME_HEADER_BYTES;
  uint64_t end_off = body_off + frame.body_bytes;
  if (flume_frame_next_seq(&frame) != segment->next_seq) return BAD("frame with an unexpected seq");
  switch (frame.kind) {
    case FLUME_FRAME_DATA:
      rv = scan_records(segment, window, &frame, body_off, &removed, why);
      if (rv != 0) return rv;
      segment->removed_count += removed;
      segment->next_seq += frame.count;
      segment->data_end_off = end_off;
      break;
    case FLUME_FRAME_INDEX:
      rv = scan_body(window, &frame, body_off, why);
      if (rv != 0) return rv;
      segment->index_off = off;
      segment->indexed_seq = segment->next_seq;
      break;
    case FLUME_FRAME_END:
      rv = scan_body(window, &frame, body_off, why);
      if (rv != 0) return rv;
      break;
    default: return BAD("frame of an unknown kind");
  }
  if (frame.durable_off > segment->durable_off) segment->durable_off = frame.durable_off;
  segment->end_off = end_off;
  segment->ended = frame.kind == FLUME_FRAME_END && end_off == segment->file_bytes;
  segment->sealed = segment->ended && (frame.flags & FLUME_FRAME_SEALED) != 0;
  return 0;
}

int flume__segment_is_zeros(struct flume_window *window, uint64_t off, bool *result) {
  *result = false;
  while (off < window->file_bytes) {
    uint64_t rest = window->file_bytes - off;
    size_t len = rest < FLUME_WINDOW_BYTES ? (size_t)rest : FLUME_WINDOW_BYTES;
    const uint8_t *bytes;
    int rv = flume_window_get(window, off, len, &bytes);
    if (rv != 0) return rv;
    if (bytes[0] != 0 || memcmp(bytes, bytes + 1, len - 1) != 0) return 0;
    off += len;
  }
  *result = true;
  return 0;
}

static bool is_frame(const struct flume_segment *segment, const uint8_t *header, uint64_t off,
                     struct flume_frame *frame) {
  const char *why;
  struct flume_place place = {segment->log_id, segment->first_seq, off};
  return flume_frame_get(header, frame, &place, &why) == 0;
}

int flume__segment_find_frame(const struct flume_segment *segment, struct flume_window *window, uint64_t *off,
                              struct flume_frame *frame) {
  uint8_t first_byte = FLUME_FRAME_MAGIC & 0xff;
  for (uint64_t from = *off; from + FLUME_FRAME_HEADER_BYTES <= window->file_bytes;) {
    uint64_t rest = window->file_bytes - from;
    size_t len = rest < FLUME_WINDOW_BYTES ? (size_t)rest : FLUME_WINDOW_BYTES;
    const uint8_t *bytes;
    int rv = flume_window_get(window, from, len, &bytes);
    if (rv != 0) return rv;
    size_t last = len - FLUME_FRAME_HEADER_BYTES; /* the last place in the window where a whole header fits */
    for (size_t at = 0; at <= last; at++) {
      const uint8_t *hit = memchr(bytes + at, first_byte, last - at + 1);
      if (hit == NULL) break;
      at = (size_t)(hit - bytes);
      if (!is_frame(segment, hit, from + at, frame)) continue;
      *off = from + at;
      return 1;
    }
    from += last + 1;
  }
  return 0;
}

/* What comes behind a bad place. */
struct sequel {
  uint64_t next_off; /* of a frame that stands at the very seq that was expected; 0 when there is none */
  bool witness;      /* a frame knows the bad place to have been on disk */
};

static int find_sequel(struct flume_segment *segment, struct flume_window *window, uint64_t bad_off,
                       struct sequel *sequel) {
  *sequel = (struct sequel){0};
  struct flume_frame frame = {.kind = 0};
  int rv = 0;
  for (uint64_t off = bad_off + 1; (rv = flume__segment_find_frame(segment, window, &off, &frame)) == 1; off++) {
    if (flume_frame_next_seq(&frame) == segment->next_seq) sequel->next_off = off;
    if (frame.durable_off > bad_off) sequel->witness = true;
    if (sequel->next_off != 0 || sequel->witness) return 0;
  }
  return rv;
}

/* Decides about the bad place at end_off: the end, passed over (end_off moves on), torn, or damage. */
static int judge(struct flume_segment *segment, struct flume_window *window, struct flume_damage *damage) {
  bool zeros;
  struct sequel sequel;
  damage->off = segment->end_off;
  damage->seq = segment->next_seq;
  int rv = flume__segment_is_zeros(window, damage->off, &zeros);
  if (rv != 0) return rv;
  if (zeros) {
    damage->why = NULL;
    return 0;
  }
  rv = find_sequel(segment, window, damage->off, &sequel);
  if (rv != 0) return rv;
  damage->torn = !sequel.witness;
  if (sequel.next_off != 0) {
    segment->end_off = sequel.next_off;
    damage->why = NULL;
  }
  return 0;
}

int flume_segment_scan(struct flume_segment *segment, struct flume_damage *damage, struct flume_err *err) {
  assert(segment->file >= 0 && segment->offsets_seq == segment->first_seq);
  struct flume_window window;
  flume_window_init(&window, segment->io, segment->file, segment->file_bytes);
  segment->next_seq = segment->indexed_seq = segment->first_seq;
  segment->end_off = FLUME_SEGMENT_HEADER_BYTES;
  segment->index_off = 0;
  segment->durable_off = FLUME_SEGMENT_HEADER_BYTES;
  segment->removed_count = 0;
  segment->ended = segment->sealed = false;
  *damage = (struct flume_damage){0};
  bool index_lost = false;
  uint64_t stopped_off = 0;
  int rv = 0;
  while (rv == 0 && segment->end_off < segment->file_bytes && segment->end_off != stopped_off) {
    rv = scan_frame(segment, &window, &damage->why);
    if (rv != FLUME_ECORRUPT || damage->why == NULL) continue;
    stopped_off = segment->end_off;
    rv = judge(segment, &window, damage);
    index_lost = index_lost || segment->end_off != stopped_off;
  }
  flume_window_fini(&window);
  if (rv != 0) return flume_err_set(err, rv, "reading %s: %s", segment->path, flume_strerror(rv));
  if (index_lost) { /* the next index covers all records again */
    segment->index_off = 0;
    segment->indexed_seq = segment->first_seq;
    segment->ended = segment->sealed = false;
  }
  segment->loaded = true;
  segment->zeroed_off = damage->why == NULL ? segment->file_bytes : segment->end_off;
  return damage->why == NULL ? 0
                             : flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): %s", segment->path,
                                             (unsigned long long)damage->off, (long long)damage->seq, damage->why);
}

/* --- Following ------------------------------------------------------------------------------------------------ */

/* Where nothing was written yet there are zeros, or nothing at all. */
static bool unwritten(struct flume_segment *segment, struct flume_window *window) {
  static const uint8_t zeros[FLUME_FRAME_HEADER_BYTES];
  const uint8_t *header;
  if (segment->file_bytes - segment->end_off < sizeof zeros) return false;
  if (flume_window_get(window, segment->end_off, sizeof zeros, &header) != 0) return false;
  return memcmp(header, zeros, sizeof zeros) == 0;
}

/* What is bad may be on its way: another process is writing it. Only what comes behind it can tell, and that may have
 * been written after the bad place was read; so when it tells, the bad place is read once more, and has to be bad still.
 * 1: go on; 0: nothing whole is there yet; FLUME_ECORRUPT: damage; or an errno. */
static int look_again(struct flume_segment *segment, struct flume_window *window, struct flume_damage *damage) {
  uint64_t bad_off = segment->end_off;
  int rv = judge(segment, window, damage);
  if (rv == FLUME_ECORRUPT) return 0; /* the file is being cut */
  if (rv != 0) return rv;
  uint64_t next_off = segment->end_off;
  bool damaged = damage->why != NULL && !damage->torn;
  if (next_off == bad_off && !damaged) return 0;
  const char *why;
  segment->end_off = bad_off;
  flume_window_forget(window);
  rv = scan_frame(segment, window, &why);
  if (rv != FLUME_ECORRUPT) return rv == 0 ? 1 : rv;
  segment->end_off = next_off;
  return next_off == bad_off ? FLUME_ECORRUPT : 1;
}

static int follow_frame(struct flume_segment *segment, struct flume_window *window, struct flume_damage *damage) {
  damage->why = NULL;
  int rv = scan_frame(segment, window, &damage->why);
  if (rv == 0) return 1;
  if (rv != FLUME_ECORRUPT) return rv;
  if (damage->why == NULL || unwritten(segment, window)) return 0;
  return look_again(segment, window, damage);
}

void flume_segment_tail_init(struct flume_segment *tail, const struct flume_segment *segment, uint64_t file_bytes) {
  assert(segment->loaded && file_bytes >= segment->end_off);
  *tail = (struct flume_segment){.io = segment->io,
                                 .path = segment->path,
                                 .file = segment->file,
                                 .first_seq = segment->first_seq,
                                 .next_seq = segment->next_seq,
                                 .end_off = segment->end_off,
                                 .data_end_off = segment->data_end_off,
                                 .file_bytes = file_bytes,
                                 .index_off = segment->index_off,
                                 .indexed_seq = segment->indexed_seq,
                                 .durable_off = segment->durable_off,
                                 .ended = segment->ended,
                                 .sealed = segment->sealed,
                                 .loaded = true,
                                 .offsets_seq = segment->next_seq,
                                 .removed_count = segment->removed_count};
  memcpy(tail->log_id, segment->log_id, sizeof tail->log_id);
}

void flume_segment_tail_fini(struct flume_segment *tail) {
  flume_io_free(tail->io, tail->offsets);
  tail->offsets = NULL;
}

int flume_segment_take_tail(struct flume_segment *segment, const struct flume_segment *tail) {
  assert(tail->first_seq == segment->first_seq && tail->offsets_seq == segment->next_seq);
  size_t count = (size_t)(tail->next_seq - segment->next_seq);
  if (flume_segment_reserve(segment, count) != 0) return FLUME_ENOMEM;
  uint32_t *offsets = segment->offsets + (segment->next_seq - segment->first_seq);
  if (count > 0) memcpy(offsets, tail->offsets, count * sizeof *offsets);
  segment->next_seq = tail->next_seq;
  segment->indexed_seq = tail->indexed_seq;
  segment->end_off = tail->end_off;
  segment->data_end_off = tail->data_end_off;
  segment->file_bytes = tail->file_bytes;
  segment->index_off = tail->index_off;
  segment->durable_off = tail->durable_off;
  segment->ended = tail->ended;
  segment->sealed = tail->sealed;
  segment->removed_count = tail->removed_count;
  return 0;
}

int flume_segment_follow(struct flume_segment *segment, int64_t last_seq, size_t max_bytes, struct flume_err *err) {
  assert(segment->loaded && segment->file_bytes >= segment->end_off);
  struct flume_window window;
  struct flume_damage damage;
  flume_window_init(&window, segment->io, segment->file, segment->file_bytes);
  window.step_bytes = FOLLOW_BYTES;
  uint64_t start_off = segment->end_off;
  int rv = 1;
  while (rv == 1 && segment->next_seq <= last_seq && segment->end_off < segment->file_bytes &&
         segment->end_off - start_off < max_bytes) {
    rv = follow_frame(segment, &window, &damage);
  }
  flume_window_fini(&window);
  if (segment->end_off != start_off) return 1; /* the frames behind it come next time */
  if (rv >= 0) return 0;
  if (rv != FLUME_ECORRUPT) return flume_err_set(err, rv, "reading %s: %s", segment->path, flume_strerror(rv));
  return flume_err_set(err, rv, "%s: byte %llu (seq %lld): %s", segment->path, (unsigned long long)damage.off,
                       (long long)damage.seq, damage.why);
}
