/* Streams of every kind of log. */
#include "each_log.h"

struct oracle {
  int64_t since;
  bool deleted[64];
};

/* As rest_of, of a stream that is not live. */
static const char *oracle_stream(const struct oracle *oracle, const struct flume_range *range) {
  static char text[4096];
  size_t len = 0;
  int64_t left = range->limit;
  int64_t last = range->last < oracle->since ? range->last : oracle->since;
  for (int64_t i = 0; i <= oracle->since && left != 0; i++) {
    int64_t seq = range->reverse ? oracle->since - i : i;
    if (seq < range->first || seq > last || oracle->deleted[seq] || !range->old) continue;
    len += (size_t)snprintf(text + len, 24, "%lld ", (long long)seq);
    left--;
  }
  snprintf(text + len, 8, ".");
  return text;
}

static void check_ranges(struct fixture *f, const struct oracle *oracle) {
  struct flume_range range;
  for (int64_t first = -1; first <= oracle->since + 2; first++) {
    for (int64_t last = -1; last <= oracle->since + 2; last++) {
      for (int64_t limit = -1; limit <= oracle->since + 2; limit++) {
        for (int bits = 0; bits < 4; bits++) {
          range = (struct flume_range){.first = first, .last = last, .limit = limit, .reverse = bits & 1,
                                       .old = !(bits & 2)};
          if (!CHECK_STR_EQ(all_of(f, &range), oracle_stream(oracle, &range))) {
            printf("first %d last %d limit %d bits %d\n", (int)first, (int)last, (int)limit, bits);
            return;
          }
        }
      }
    }
  }
}

EACH_LOG(every_range_of_a_stream) {
  struct oracle oracle = {.since = -1};
  check_ranges(f, &oracle);
  append_numbers(f, 0, 7);
  oracle.since = 7;
  check_ranges(f, &oracle);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 3, 4, 7}, 4), 0);
  oracle.deleted[0] = oracle.deleted[3] = oracle.deleted[4] = oracle.deleted[7] = true;
  check_ranges(f, &oracle);
}

EACH_LOG(extreme_ranges) {
  append_numbers(f, 0, 2);
  struct flume_range range = {.first = INT64_MIN, .last = INT64_MAX, .limit = INT64_MAX, .old = true};
  CHECK_STR_EQ(all_of(f, &range), "0 1 2 .");
  range.reverse = true;
  CHECK_STR_EQ(all_of(f, &range), "2 1 0 .");
  range = (struct flume_range){.first = INT64_MAX, .last = INT64_MAX, .limit = -1, .old = true};
  CHECK_STR_EQ(all_of(f, &range), ".");
  range = (struct flume_range){.first = 0, .last = INT64_MIN, .limit = -1, .old = true};
  CHECK_STR_EQ(all_of(f, &range), ".");
  range.reverse = true;
  CHECK_STR_EQ(all_of(f, &range), ".");
}

EACH_LOG(live_stream_goes_on) {
  struct flume_range range = living(true);
  append_numbers(f, 0, 1);
  struct flume_stream *stream = stream_new(f, &range);
  CHECK_STR_EQ(rest_of(stream), "0 1 ...");
  append_numbers(f, 2, 2);
  CHECK_STR_EQ(rest_of(stream), "2 ...");
  append_numbers(f, 3, 60);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){3, 60}, 2), 0);
  struct flume_record record;
  for (int64_t seq = 4; seq < 60; seq++) {
    REQUIRE(flume_stream_next(stream, &record, NULL) == 1);
    CHECK_INT_EQ(record.seq, seq);
    flume_record_release(&record);
  }
  CHECK_STR_EQ(rest_of(stream), "...");
  flume_stream_close(stream);
}

EACH_LOG(live_without_old_on_an_empty_log) {
  struct flume_range range = living(false);
  struct flume_stream *stream = stream_new(f, &range);
  CHECK_STR_EQ(rest_of(stream), "...");
  CHECK_STR_EQ(rest_of(stream), "...");
  CHECK_INT_EQ(append_text(f, ""), 0);
  CHECK_STR_EQ(rest_of(stream), "0 ...");
  struct flume_stream *second = stream_new(f, &range);
  CHECK_STR_EQ(rest_of(second), "...");
  CHECK_INT_EQ(append_text(f, "one"), 1);
  CHECK_STR_EQ(rest_of(second), "1 ...");
  CHECK_STR_EQ(rest_of(stream), "1 ...");
  flume_stream_close(stream);
  flume_stream_close(second);
}

EACH_LOG(live_stream_ends) {
  struct flume_range range = living(true);
  range.last = 2;
  struct flume_stream *bounded = stream_new(f, &range);
  range = living(true);
  range.limit = 2;
  struct flume_stream *limited = stream_new(f, &range);
  range = living(true);
  range.first = 3;
  struct flume_stream *later = stream_new(f, &range);
  append_numbers(f, 0, 1);
  CHECK_STR_EQ(rest_of(bounded), "0 1 ...");
  CHECK_INT_EQ(del_one(f, 0), 0);
  CHECK_STR_EQ(rest_of(limited), "1 ...");
  CHECK_STR_EQ(rest_of(later), "...");
  append_numbers(f, 2, 4);
  CHECK_STR_EQ(rest_of(bounded), "2 .");
  CHECK_STR_EQ(rest_of(bounded), ".");
  CHECK_STR_EQ(rest_of(limited), "2 .");
  CHECK_STR_EQ(rest_of(later), "3 4 ...");
  flume_stream_close(bounded);
  flume_stream_close(limited);
  flume_stream_close(later);
  range = living(true);
  range.limit = 0;
  CHECK_STR_EQ(all_of(f, &range), ".");
  range = living(true);
  range.last = 1;
  CHECK_STR_EQ(all_of(f, &range), "1 .");
}

EACH_LOG(live_and_reverse_exclude_each_other) {
  struct flume_range range = living(true);
  struct flume_stream *stream = NULL;
  range.reverse = true;
  CHECK_INT_EQ(flume_stream_open(&stream, f->log, &range, &f->err), FLUME_EINVAL);
  CHECK_INT_EQ(f->err.code, FLUME_EINVAL);
  CHECK(stream == NULL);
}

EACH_LOG(a_stream_is_not_led_on_by_appends) {
  append_numbers(f, 0, 2);
  struct flume_range range = everything(), reverse = backwards();
  struct flume_stream *stream = stream_new(f, &range), *back = stream_new(f, &reverse);
  append_numbers(f, 3, 9);
  CHECK_STR_EQ(rest_of(stream), "0 1 2 .");
  CHECK_STR_EQ(rest_of(back), "2 1 0 .");
  flume_stream_close(stream);
  flume_stream_close(back);
}

EACH_LOG(peek_borrows) {
  append_numbers(f, 0, 99);
  struct flume_range range = everything();
  struct flume_stream *stream = stream_new(f, &range);
  struct flume_record record;
  for (int64_t seq = 0; seq < 100; seq++) {
    char text[8];
    REQUIRE(flume_stream_peek(stream, &record, NULL) == 1);
    int len = snprintf(text, sizeof text, "%d", (int)seq);
    CHECK(record.seq == seq && record.len == (uint32_t)len && memcmp(record.data, text, record.len) == 0);
  }
  CHECK_INT_EQ(flume_stream_peek(stream, &record, NULL), 0);
  flume_stream_close(stream);
}

EACH_LOG(records_outlive_the_log) {
  append_numbers(f, 0, 9);
  struct flume_record got, streamed;
  struct flume_range range = backwards();
  struct flume_stream *stream = stream_new(f, &range);
  REQUIRE(flume_stream_next(stream, &streamed, NULL) == 1);
  REQUIRE(flume_log_get(f->log, 4, &got, NULL) == 0);
  flume_stream_close(stream);
  fixture_close(f);
  CHECK(streamed.len == 1 && streamed.data[0] == '9');
  CHECK(got.len == 1 && got.data[0] == '4');
  flume_record_release(&streamed);
  flume_record_release(&streamed);
  flume_record_release(&got);
}
