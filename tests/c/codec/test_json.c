#include "codec/json.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

#include "codec/float_text.h"
#include "codec/msgpack.h"
#include "test.h"

static struct flume_err err;

/* The JSON that the text reads and writes as; or the error's text. Valid until the next call. */
static const char *again_len(const char *text, size_t len) {
  static char result[4096];
  struct flume_buf packed, json;
  char *copy = malloc(len > 0 ? len : 1);
  const char *what = result;
  if (copy == NULL) abort();
  memcpy(copy, text, len);
  flume_buf_init(&packed, &flume_io_posix);
  flume_buf_init(&json, &flume_io_posix);
  err.msg[0] = '\0';
  if (flume_json_to_msgpack(copy, len, &packed, &err) != 0) {
    CHECK_INT_EQ(packed.len, 0);
    CHECK_INT_EQ(err.code, FLUME_EINVAL);
    what = err.msg;
  } else {
    CHECK_INT_EQ(flume_msgpack_check(packed.data, packed.len), 0);
    CHECK_INT_EQ(flume_msgpack_to_json(packed.data, packed.len, FLUME_JSON_EXACT, &json, NULL, &err), 0);
    if (json.len >= sizeof result) json.len = sizeof result - 1;
    memcpy(result, json.data, json.len);
    result[json.len] = '\0';
  }
  free(copy);
  flume_buf_fini(&packed);
  flume_buf_fini(&json);
  return what;
}

static const char *again(const char *text) {
  return again_len(text, strlen(text));
}

static struct flume_json_loss loss;

/* The JSON text of MessagePack bytes, or the error's text. Valid until the next call. */
static const char *to_json(enum flume_json_mode mode, const void *data, size_t len) {
  static char result[4096];
  struct flume_buf json;
  flume_buf_init(&json, &flume_io_posix);
  if (flume_msgpack_to_json(data, len, mode, &json, &loss, &err) != 0) {
    CHECK_INT_EQ(json.len, 0);
    snprintf(result, sizeof result, "%s", err.msg);
  } else {
    snprintf(result, sizeof result, "%.*s", (int)json.len, (const char *)json.data);
  }
  flume_buf_fini(&json);
  return result;
}

/* The number that the text reads as. */
static struct flume_value read_number(const char *text) {
  struct flume_buf packed;
  struct flume_value v = {.type = FLUME_TYPE_EXT};
  const uint8_t *p;
  flume_buf_init(&packed, &flume_io_posix);
  if (CHECK_INT_EQ(flume_json_to_msgpack(text, strlen(text), &packed, &err), 0)) {
    p = packed.data;
    CHECK_INT_EQ(flume_msgpack_read(&p, packed.data + packed.len, &v), 0);
  }
  flume_buf_fini(&packed);
  return v;
}

TEST(values_round_trip) {
  static const char *const same[] = {
    "null", "true", "false", "0", "-1", "9223372036854775807", "-9223372036854775808", "1.5", "-0.1", "3.0", "\"\"",
    "\"text\"", "[]", "{}", "[1,2,[3,{\"a\":[]}]]", "{\"a\":1,\"b\":{\"c\":null}}",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\"",
    "[0.1,0.2,1e+300,1e-10,123456.789]", "\"/\x7f\"", "0.30000000000000004", "5e-324", "\"\\ud83d\"", "\"a\\udc00\\ud83db\"",
    "1.7976931348623157e+308", "-0.0", "{\"\":0}", "[[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17],[0]]",
  };
  for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) CHECK_STR_EQ(again(same[i]), same[i]);
}

TEST(space_and_escapes_are_normalised) {
  CHECK_STR_EQ(again(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } } \n"), "{\"a\":[1,2],\"b\":{}}");
  CHECK_STR_EQ(again("\"\\/\\u0041\\u00e9\\u20AC\\ud83d\\ude00\""), "\"/A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
  CHECK_STR_EQ(again("\"\\u0000\""), "\"\\u0000\"");
  CHECK_STR_EQ(again("-0"), "0");
  CHECK_STR_EQ(again("1E2"), "100.0");
  CHECK_STR_EQ(again("12.50e-1"), "1.25");
}

TEST(integers_and_floats_keep_their_kind) {
  CHECK(read_number("9223372036854775807").type == FLUME_TYPE_INT);
  CHECK(read_number("-9223372036854775808").i == INT64_MIN);
  CHECK(read_number("9223372036854775808").type == FLUME_TYPE_FLOAT);
  CHECK(read_number("9223372036854775808").f == 9223372036854775808.0);
  CHECK(read_number("-9223372036854775808000").f == -9223372036854775808000.0);
  CHECK(read_number("18446744073709551616").f == 18446744073709551616.0);
  CHECK(read_number("1.0").type == FLUME_TYPE_FLOAT);
  CHECK(read_number("1e0").type == FLUME_TYPE_FLOAT);
  CHECK(read_number("3").type == FLUME_TYPE_INT);
}

TEST(floats_are_rounded_correctly) {
  static const char *const texts[] = {
    "0.1", "123456789.123456789", "9007199254740993.0", "9007199254740992.5", "1e22", "1e23",
    "2.2250738585072011e-308", "1.7976931348623158e308", "4.9406564584124654e-324", "1e-400", "8.5e-23",
    "0.000000000000000000000000000000000000001", "6.02214076e23", "3.14159265358979323846264338327950",
    "179769313486231570814527423731704356798070567525844996598917476803157260780028538760589558632766878171540458953"
    "514382464234321326889464182768467546703537516986049910576551282076245490090389328944075868508455133942304583236"
    "903222948165808559332123347747979262628.0e-200",
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    double expected = strtod(texts[i], NULL), got = read_number(texts[i]).f;
    if (!CHECK(got == expected)) printf("  %s: %.17g, not %.17g\n", texts[i], got, expected);
  }
}

TEST(random_floats_survive_the_text) {
  unsigned seed = 99;
  struct flume_buf packed, json, back;
  flume_buf_init(&packed, &flume_io_posix);
  flume_buf_init(&json, &flume_io_posix);
  flume_buf_init(&back, &flume_io_posix);
  for (int i = 0; i < 100000; i++) {
    uint64_t bits = (uint64_t)rand_r(&seed) << 40 ^ (uint64_t)rand_r(&seed) << 20 ^ (uint64_t)rand_r(&seed);
    double v;
    memcpy(&v, &bits, sizeof v);
    if (i % 3 == 0) v = rand_r(&seed) % 1000000 / 1000.0;
    if (i % 3 == 1) v = (double)(int64_t)(bits >> (bits & 31)) / 1e4;
    if (!isfinite(v)) continue;
    packed.len = json.len = back.len = 0;
    flume_msgpack_write_float(&packed, v);
    if (flume_msgpack_to_json(packed.data, packed.len, FLUME_JSON_EXACT, &json, NULL, &err) != 0 ||
        flume_json_to_msgpack((char *)json.data, json.len, &back, &err) != 0 || back.len != packed.len ||
        memcmp(back.data, packed.data, packed.len) != 0) {
      printf("  %.17g became %.*s\n", v, (int)json.len, (char *)json.data);
      CHECK(!"the same float");
    }
  }
  flume_buf_fini(&packed);
  flume_buf_fini(&json);
  flume_buf_fini(&back);
}

TEST(errors_name_the_column) {
  static const char *const cases[][2] = {
    {"{\"aaaaaaaa\": 123 x}", "column 18: expected ',' or '}' but found 'x'"},
    {"", "column 1: expected a value but found the end of the text"},
    {"   ", "column 4: expected a value but found the end of the text"},
    {"[1,2", "column 5: expected ',' or ']' but found the end of the text"},
    {"[1,]", "column 4: expected a value but found ']'"},
    {"[1 2]", "column 4: expected ',' or ']' but found '2'"},
    {"{a:1}", "column 2: expected a key in quotes but found 'a'"},
    {"{\"a\" 1}", "column 6: expected ':' but found '1'"},
    {"{\"a\":1,}", "column 8: expected a key in quotes but found '}'"},
    {"1 2", "column 3: expected the end of the text but found '2'"},
    {"nul", "column 1: expected a value but found 'n'"},
    {"nan", "column 1: expected a value but found 'n'"},
    {"'x'", "column 1: expected a value but found '''"},
    {"01", "column 2: a number can't go on after a leading 0"},
    {"-", "column 2: expected a digit but found the end of the text"},
    {"+1", "column 1: expected a value but found '+'"},
    {"1.", "column 3: expected a digit but found the end of the text"},
    {".5", "column 1: expected a value but found '.'"},
    {"1e+", "column 4: expected a digit but found the end of the text"},
    {"1e999", "column 1: number out of range"},
    {"\"abc", "column 5: expected '\"' but found the end of the text"},
    {"\"a\nb\"", "column 3: control character 0x0a in a string"},
    {"\"\\x\"", "column 3: expected an escape, one of \"\\/bfnrtu but found 'x'"},
    {"\"\\", "column 3: expected an escape, one of \"\\/bfnrtu but found the end of the text"},
    {"\"\\u12g4\"", "column 2: \\u needs four hexadecimal digits"},
    {"\"\\ud83\"", "column 2: \\u needs four hexadecimal digits"},
    {"\"a\xff\"", "column 3: byte 0xff is not valid UTF-8"},
    {"\"\xc0\x80\"", "column 2: byte 0xc0 is not valid UTF-8"},
    {"\"\xed\xa0\x80\"", "column 2: byte 0xed is not valid UTF-8"},
    {"\"\xe2\x82\"", "column 2: byte 0xe2 is not valid UTF-8"},
    {"\xef\xbb\xbf{}", "column 1: expected a value but found byte 0xef"},
    {"[1]\x01", "column 4: expected the end of the text but found byte 0x01"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) CHECK_STR_EQ(again(cases[i][0]), cases[i][1]);
  CHECK_STR_EQ(again_len("1\0", 2), "column 2: expected the end of the text but found byte 0x00");
}

TEST(the_last_of_equal_keys_stays) {
  CHECK_STR_EQ(again("{\"a\":1,\"a\":2}"), "{\"a\":2}");
  CHECK_STR_EQ(again("{\"a\":1,\"b\":[2],\"a\":{\"x\":3},\"c\":4}"), "{\"b\":[2],\"a\":{\"x\":3},\"c\":4}");
  CHECK_STR_EQ(again("{\"a\":1,\"\\u0061\":2,\"a\":3}"), "{\"a\":3}");
  CHECK_STR_EQ(again("{\"o\":{\"k\":1,\"k\":2},\"k\":3}"), "{\"o\":{\"k\":2},\"k\":3}");
}

TEST(many_equal_keys) {
  struct flume_buf packed;
  struct flume_value v;
  const uint8_t *p, *at;
  static char text[400000];
  size_t len = 0;
  text[len++] = '{';
  for (int i = 0; i < 20000; i++) {
    len += (size_t)snprintf(text + len, sizeof text - len, "%s\"k%d\":%d", i > 0 ? "," : "", i % 5000, i);
  }
  text[len++] = '}';
  flume_buf_init(&packed, &flume_io_posix);
  CHECK_INT_EQ(flume_json_to_msgpack(text, len, &packed, &err), 0);
  CHECK_INT_EQ(flume_msgpack_check(packed.data, packed.len), 0);
  p = packed.data;
  flume_msgpack_read(&p, packed.data + packed.len, &v);
  CHECK_INT_EQ(v.count, 5000);
  CHECK_INT_EQ(flume_msgpack_find(packed.data, packed.data + packed.len, "k77", 3, &at), 0);
  flume_msgpack_read(&at, packed.data + packed.len, &v);
  CHECK_INT_EQ(v.i, 15077);
  flume_buf_fini(&packed);
}

TEST(depth_is_limited) {
  char text[400];
  memset(text, '[', 128);
  memset(text + 128, ']', 128);
  text[256] = '\0';
  CHECK_STR_EQ(again(text), text);
  memset(text, '[', 129);
  CHECK_STR_EQ(again(text), "column 129: nested deeper than 128");
}

/* What JavaScript's JSON.stringify writes for a string that was cut between the two halves of an emoji. */
TEST(half_a_surrogate_pair_is_kept) {
  CHECK_STR_EQ(again("\"\\ud83d\""), "\"\\ud83d\"");
  CHECK_STR_EQ(again("[\"a\\ud83d\",\"\\uDE00b\"]"), "[\"a\\ud83d\",\"\\ude00b\"]");
  CHECK_STR_EQ(again("\"\\ud83d\\u0041\""), "\"\\ud83dA\"");
  CHECK_STR_EQ(again("\"\\ud83d\\ud83d\\ude00\""), "\"\\ud83d\xf0\x9f\x98\x80\"");
  CHECK_STR_EQ(again("{\"\\udfff\":0}"), "{\"\\udfff\":0}");
  /* As bytes a whole pair would read back as one character. */
  CHECK_STR_EQ(to_json(FLUME_JSON_EXACT, "\xa6\xed\xa0\xbd\xed\xb8\x80", 7),
               "value: a string that is not UTF-8 has no JSON form");
}

TEST(integers_beyond_64_bits_lose_no_digit) {
  static const char *const kept[] = {
    "9223372036854775808", "18446744073709551616", "123456789012345680000", "100000000000000000000",
    "-295147905179352830000", "10000000000000000000000000000000000000000",
  };
  static const char *const refused[] = {
    "12345678901234567890", "-9223372036854775809", "18446744073709551615", "100000000000000000000000001",
  };
  for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) CHECK(read_number(kept[i]).f == strtod(kept[i], NULL));
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    CHECK_STR_EQ(again(refused[i]), "column 1: an integer beyond 64 bits would lose digits; a string keeps them, and "
                                    "1.5e20 says that it is rounded");
  }
  CHECK(read_number("12345678901234567890.0").f == 12345678901234567890.0);
}

/* The MessagePack of a text that is in a log already, or NULL. Valid until the next call. */
static const struct flume_buf *stored(const char *text) {
  static struct flume_buf packed;
  flume_buf_fini(&packed);
  flume_buf_init(&packed, &flume_io_posix);
  return flume_json_stored_to_msgpack(text, strlen(text), &packed, &err) == 0 ? &packed : NULL;
}

TEST(what_is_stored_is_read_as_javascript_does) {
  struct flume_value v;
  const uint8_t *p = stored("12345678901234567890")->data;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 9, &v), 0);
  CHECK(v.type == FLUME_TYPE_FLOAT && v.f == 12345678901234567890.0);
  p = stored("-1e999")->data;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 9, &v), 0);
  CHECK(isinf(v.f) && v.f < 0);
  CHECK_INT_EQ(memcmp(stored("\"a\xff\"")->data, "\xa2""a\xff", 3), 0);
  CHECK(stored("{oops}") == NULL);
  CHECK_STR_EQ(err.msg, "column 2: expected a key in quotes but found 'o'");
}

TEST(what_is_stored_deeper_than_128_is_a_string) {
  const struct flume_buf *packed;
  char text[600];
  memset(text, '[', 128);
  strcpy(text + 128, "[{\"a]\":\"\\\"\"}],2");
  memset(text + strlen(text), ']', 128);
  text[128 + 15 + 128] = '\0';
  packed = stored(text);
  if (!CHECK(packed != NULL)) return;
  CHECK_INT_EQ(flume_msgpack_check(packed->data, packed->len), 0);
  CHECK_INT_EQ(memcmp(packed->data + 127, "\x92\xad[{\"a]\":\"\\\"\"}]\x02", 16), 0);
  strcpy(text + 128, "[1");
  CHECK(stored(text) == NULL);
  CHECK_STR_EQ(err.msg, "column 129: nested deeper than 128, and not closed");
}

TEST(what_json_can_not_say_is_refused) {
  static const struct {
    const char *bytes;
    size_t len;
    const char *exact, *text_keys;
  } cases[] = {
    {"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", 9, "value: nan has no JSON form", NULL},
    {"\x81\xa1""a\x92\x01\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", 14, "value.a[2]: an infinity has no JSON form", NULL},
    {"\x81\xa3""b c\xa1\xff", 7, "value[\"b c\"]: a string that is not UTF-8 has no JSON form", NULL},
    {"\x91\xd4\x01\x02", 4, "value[1]: a MessagePack extension value has no JSON form", NULL},
    {"\x81\x91\x01\x02", 4, "value[...]: a key that is no string has no JSON form", NULL},
    {"\x82\x01\xa1""a\xa1""1\xa1""b", 8, "value[1]: a key that is no string has no JSON form",
     "two keys have the same JSON form"},
    {"\x82\xc3\x01\xa4true\x02", 9, "value[true]: a key that is no string has no JSON form",
     "two keys have the same JSON form"},
    {"\x81\x05\x82\xa1""a\x01\xa1""b\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", 17,
     "value[5]: a key that is no string has no JSON form", "value[5].b: nan has no JSON form"},
    {"\x91", 1, "not valid MessagePack", NULL},
    {"\x01\x01", 2, "not valid MessagePack", NULL},
    {"", 0, "not valid MessagePack", NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const char *expected = cases[i].text_keys != NULL ? cases[i].text_keys : cases[i].exact;
    CHECK_STR_EQ(to_json(FLUME_JSON_EXACT, cases[i].bytes, cases[i].len), cases[i].exact);
    CHECK(strstr(to_json(FLUME_JSON_TEXT_KEYS, cases[i].bytes, cases[i].len), expected) != NULL);
  }
  CHECK_STR_EQ(to_json(FLUME_JSON_TEXT_KEYS, "\x84\x01\x02\xc3\xc0\xc0\x05\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x06", 17),
               "{\"1\":2,\"true\":null,\"null\":5,\"1.5\":6}");
}

TEST(what_a_lossy_text_lacks_is_told) {
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", 9), "null");
  CHECK_STR_EQ(loss.what, "value: an infinity has no JSON form");
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\xa3""a\xff""b", 4), "\"a\\ufffdb\"");
  CHECK(loss.values && !loss.keys);
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\xa4\xe2\x82\xed\xa0", 5), "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\x82\x07\xa1x\xa1y\x08", 7), "{\"7\":\"x\",\"y\":8}");
  CHECK(!loss.values && loss.keys);
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\x82\x01\xa1""a\xa1""1\xa1""b", 8), "{\"1\":\"a\",\"1\":\"b\"}");
  CHECK(loss.values && loss.keys);
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\x82\x91\x01\x02\xa1y\xd4\x01\x02", 9), "{\"null\":2,\"y\":null}");
  CHECK_STR_EQ(loss.what, "value[...]: a key that is no string has no JSON form");
  CHECK_STR_EQ(to_json(FLUME_JSON_LOSSY, "\x81\xa1y\x08", 4), "{\"y\":8}");
  CHECK(!loss.values && !loss.keys);
}

TEST(floats_have_the_shortest_text) {
  static const char *const same[] = {
    "0.07", "0.29", "4.35", "1.1", "-2.675", "0.0001", "1e-5", "1.5e-7", "100.0", "1e+22", "123456789.12", "5e-324",
    "2.2250738585072014e-308", "1.7976931348623157e+308", "0.30000000000000004", "9007199254740992.0", "1e+16",
  };
  for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) CHECK_STR_EQ(again(same[i]), same[i]);
  for (int cents = 0; cents < 100000; cents++) {
    char plain[40];
    snprintf(plain, sizeof plain, "%.15g", cents / 100.0);
    if (strchr(plain, '.') == NULL) strcat(plain, ".0");
    CHECK_STR_EQ(again(plain), plain);
  }
  for (int exponent = -1074; exponent < 1024; exponent++) { /* the floats below a power of two are closer */
    char text[FLUME_FLOAT_TEXT_SIZE], printed[40];
    double v = ldexp(1, exponent);
    size_t len = flume_float_text(v, text);
    CHECK(strtod(text, NULL) == v);
    if (!CHECK(len <= (size_t)snprintf(printed, sizeof printed, "%.17g", v) + 2)) printf("  %s, not %s\n", text, printed);
  }
}

TEST(the_locale_does_not_matter) {
  static const char *const names[] = {"de_DE.utf8", "de_DE.UTF-8", "fr_FR.utf8", "fr_FR.UTF-8"};
  size_t i = 0;
  while (i < 4 && setlocale(LC_ALL, names[i]) == NULL) i++;
  if (i == 4) SKIP("no locale with a decimal comma is installed");
  CHECK_STR_EQ(again("[0.1234567890123,1.5e-30]"), "[0.1234567890123,1.5e-30]");
  setlocale(LC_ALL, "C");
}

TEST(random_damage_never_hurts) {
  static const char sample[] =
    "{\"key\":\"%a\\u00e9\\n\",\"n\":[1,-2.5e3,true,null,\"\xc3\xa9\"],\"o\":{\"x\":{\"y\":12345678901234567890}}}";
  static const char spice[] = "{}[]\",:\\u0123456789eE.-+ntf\xc3\xa9\xff";
  unsigned seed = 4711;
  for (int round = 0; round < 200000; round++) {
    char text[sizeof sample];
    size_t len = 1 + (size_t)rand_r(&seed) % (sizeof sample - 1);
    memcpy(text, sample, sizeof sample);
    for (int flips = rand_r(&seed) % 5; flips > 0; flips--) {
      text[(size_t)rand_r(&seed) % len] = spice[(size_t)rand_r(&seed) % (sizeof spice - 1)];
    }
    (void)again_len(text, len);
  }
  for (int round = 0; round < 200000; round++) {
    size_t len = 1 + (size_t)rand_r(&seed) % 64;
    uint8_t *bytes = malloc(len);
    REQUIRE(bytes != NULL);
    for (size_t i = 0; i < len; i++) {
      bytes[i] = (uint8_t)(rand_r(&seed) % 3 == 0 ? rand_r(&seed) : 0x80 + rand_r(&seed) % 64);
    }
    (void)to_json((enum flume_json_mode)(round % 3), bytes, len);
    free(bytes);
  }
}

static int allowed; /* allocations until one fails */

static void *fail_later(void *ctx, void *ptr, size_t size) {
  if (size > 0 && allowed-- <= 0) return NULL;
  return flume_io_posix.realloc(ctx, ptr, size);
}

TEST(every_allocation_may_fail) {
  static char text[2000];
  struct flume_io io = flume_io_posix;
  size_t len = 0;
  int rv = FLUME_ENOMEM;
  io.realloc = fail_later;
  text[len++] = '{';
  for (int i = 0; i < 60; i++) {
    len += (size_t)snprintf(text + len, sizeof text - len, "\"k%d\\n\":%d.25,", i % 50, i);
  }
  len += (size_t)snprintf(text + len, sizeof text - len, "\"pi\":3.%0200d1}", 7);
  for (int n = 0; rv != 0 && n < 100; n++) {
    struct flume_buf packed, json;
    flume_buf_init(&packed, &io);
    flume_buf_init(&json, &io);
    allowed = n;
    rv = flume_json_to_msgpack(text, len, &packed, &err);
    if (rv == 0) rv = flume_msgpack_to_json(packed.data, packed.len, FLUME_JSON_EXACT, &json, NULL, &err);
    if (rv != 0) {
      CHECK_INT_EQ(rv, FLUME_ENOMEM);
      CHECK_STR_EQ(err.msg, "out of memory");
      CHECK_INT_EQ(json.len, 0);
    }
    flume_buf_fini(&packed);
    flume_buf_fini(&json);
  }
  CHECK_INT_EQ(rv, 0);
}
