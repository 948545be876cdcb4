#include <stdlib.h>

#include "codec/msgpack.h"
#include "bench.h"

#define FIRST_TIMESTAMP 1600000000000
#define MAX_RECORD_BYTES 512

static const struct {
  const char *name;
  unsigned percent;
} types[BENCH_TYPES] = {{"post", 40}, {"vote", 30}, {"contact", 10}, {"about", 6}, {"channel", 4},
                        {"pub", 3},   {"blog", 3},  {"gathering", 2}, {"git-update", 1}, {"tag", 1}};

static const char *const words[] = {"append", "only", "log", "every", "view", "is", "derived", "from", "the", "records",
                                    "and", "a", "stream", "of", "them", "never", "changes", "once", "written", "down",
                                    "so", "that", "readers", "agree", "on", "what", "happened", "first", "later", "or",
                                    "together", "today"};

static char authors[BENCH_AUTHORS][45];
static double author_limits[BENCH_AUTHORS]; /* ascending to 1: the share of all authors up to this one */

static uint64_t next(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static void fill_letters(char *out, size_t len, uint64_t *state) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
  for (size_t i = 0; i < len; i += 8) {
    uint64_t bits = next(state);
    for (size_t k = i; k < i + 8 && k < len; k++, bits >>= 6) out[k] = letters[bits & 63];
  }
  out[len] = '\0';
}

static void init_authors(void) {
  uint64_t state = 1;
  double total = 0, sum = 0;
  for (size_t i = 0; i < BENCH_AUTHORS; i++) total += 1.0 / (double)(i + 1);
  for (size_t i = 0; i < BENCH_AUTHORS; i++) {
    fill_letters(authors[i], 44, &state);
    sum += 1.0 / (double)(i + 1) / total;
    author_limits[i] = sum;
  }
}

static const char *pick_author(uint64_t *state) {
  double at = (double)(next(state) >> 11) / 9007199254740992.0;
  size_t low = 0, high = BENCH_AUTHORS - 1;
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    if (author_limits[mid] < at) low = mid + 1;
    else high = mid;
  }
  return authors[low];
}

const char *bench_author(size_t i) {
  if (authors[0][0] == '\0') init_authors();
  return authors[i];
}

const char *bench_type_name(size_t i) {
  return types[i].name;
}

static const char *pick_type(uint64_t *state) {
  unsigned at = (unsigned)(next(state) % 100), i = 0;
  while (at >= types[i].percent) at -= types[i++].percent;
  return types[i].name;
}

static void fill_text(struct bench_fields *fields, uint64_t *state) {
  size_t want = 24 + next(state) % 176, len = 0;
  while (len < want) {
    uint64_t bits = next(state);
    for (int k = 0; k < 8 && len < want; k++, bits >>= 8) {
      const char *word = words[bits & 31];
      size_t word_len = strlen(word);
      memcpy(fields->text + len, word, word_len);
      len += word_len;
      fields->text[len++] = ' ';
    }
  }
  fields->text_len = len - 1;
  fields->text[len - 1] = '\0';
}

void bench_fields_make(struct bench_fields *fields, int64_t seq) {
  if (authors[0][0] == '\0') init_authors();
  uint64_t state = (uint64_t)seq * 0x2545f4914f6cdd1d + 7;
  fill_letters(fields->key, 32, &state);
  fields->author = pick_author(&state);
  fields->type = pick_type(&state);
  fields->seq = seq;
  fields->timestamp = FIRST_TIMESTAMP + seq * 1000 + (int64_t)(next(&state) % 1000);
  fill_text(fields, &state);
}

size_t bench_fields_json(const struct bench_fields *fields, char *out) {
  return (size_t)snprintf(out, 1024,
                          "{\"key\":\"%s\",\"author\":\"%s\",\"type\":\"%s\",\"seq\":%lld,\"timestamp\":%lld,"
                          "\"text\":\"%s\"}",
                          fields->key, fields->author, fields->type, (long long)fields->seq,
                          (long long)fields->timestamp, fields->text);
}

static int write_pair(struct flume_buf *buf, const char *name, const char *text, size_t len) {
  int rv = flume_msgpack_write_str(buf, name, strlen(name));
  return rv == 0 ? flume_msgpack_write_str(buf, text, len) : rv;
}

static int encode(struct flume_buf *buf, const struct bench_fields *fields) {
  int rv = flume_msgpack_write_map(buf, 6);
  if (rv == 0) rv = write_pair(buf, "key", fields->key, 32);
  if (rv == 0) rv = write_pair(buf, "author", fields->author, 44);
  if (rv == 0) rv = write_pair(buf, "type", fields->type, strlen(fields->type));
  if (rv == 0) rv = flume_msgpack_write_str(buf, "seq", 3);
  if (rv == 0) rv = flume_msgpack_write_int(buf, fields->seq);
  if (rv == 0) rv = flume_msgpack_write_str(buf, "timestamp", 9);
  if (rv == 0) rv = flume_msgpack_write_int(buf, fields->timestamp);
  return rv == 0 ? write_pair(buf, "text", fields->text, fields->text_len) : rv;
}

void bench_data_init(struct bench_data *data, size_t count) {
  struct flume_buf buf;
  struct bench_fields fields;
  flume_buf_init(&buf, &flume_io_posix);
  if (flume_buf_reserve(&buf, count * 256 + MAX_RECORD_BYTES) != 0) bench_die("no memory for %zu records", count);
  data->records = bench_alloc(count * sizeof *data->records);
  data->count = count;
  for (size_t i = 0; i < count; i++) {
    size_t start = buf.len;
    bench_fields_make(&fields, (int64_t)i);
    if (encode(&buf, &fields) != 0) bench_die("no memory for %zu records", count);
    data->records[i].len = buf.len - start;
  }
  const uint8_t *p = buf.data;
  for (size_t i = 0; i < count; i++) {
    data->records[i].data = p;
    p += data->records[i].len;
  }
  data->bytes = buf.data;
}

void bench_data_fini(struct bench_data *data) {
  flume_io_free(&flume_io_posix, data->bytes);
  free(data->records);
}
