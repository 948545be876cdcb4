/* Lua compiles in time that is linear in the source, but for what it keeps in lists and looks through each time:
 *
 *   - the jumps out of the branches of one if, and those of the operators `and` and `or` in one expression: each further
 *     one goes through the list of those before it;
 *   - pending gotos and breaks, and labels, of one function: each is compared with all others;
 *   - local variables: a name that is none is compared with those of all functions around it.
 *
 * So the tokens are gone through first, with a stack of what nests, and the work is charged before it is done. Where the
 * source is no program the estimate does not matter: Lua stops at the first error. */
#include "lua/sandbox/load.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "lua/sandbox/scanner.h"
#include "lua/value/budget.h"

#define LEVELS_MAX 256   /* Lua refuses about 200 */
#define NAMES_MAX 450    /* local variables and upvalues of one function, at most */
#define NAMES_PER_STEP 8 /* compared */
#define STEPS_PER_LINK 2 /* of a list of jumps */
#define PIECE_BYTES 1024 /* the clock is looked at after each, as the last resort */

/* What is open: a block, a function, or a parenthesis. */
struct level {
  uint32_t branches; /* elseif and else of this if */
  uint32_t logic;    /* and, or in the expression that is read here */
  uint32_t jumps;    /* goto, break and labels of the function; only used at its level */
  uint32_t names;    /* words of the function, no keywords; only used at its level */
  uint32_t function; /* the level of the function around */
};

struct estimate {
  struct level levels[LEVELS_MAX];
  uint32_t depth;    /* index of the innermost level */
  uint64_t around;   /* names of all open functions, each limited by NAMES_MAX */
  uint64_t links;    /* that are gone through */
  uint64_t compared; /* names */
};

enum role {
  ROLE_NAME,
  ROLE_NONE,
  ROLE_OPEN,
  ROLE_FUNCTION,
  ROLE_CLOSE,
  ROLE_BRANCH,
  ROLE_LOGIC,
  ROLE_JUMP,
  ROLE_SEPARATOR
};

/* Tokens that mean something here. A keyword that begins a statement separates expressions. */
static const struct {
  const char *text;
  enum role role;
} roles[] = {
    {"and", ROLE_LOGIC},       {"or", ROLE_LOGIC},          {"elseif", ROLE_BRANCH},  {"else", ROLE_BRANCH},
    {"goto", ROLE_JUMP},       {"break", ROLE_JUMP},        {"::", ROLE_JUMP},        {"if", ROLE_OPEN},
    {"do", ROLE_OPEN},         {"repeat", ROLE_OPEN},       {"(", ROLE_OPEN},         {"[", ROLE_OPEN},
    {"{", ROLE_OPEN},          {"function", ROLE_FUNCTION}, {"end", ROLE_CLOSE},      {"until", ROLE_CLOSE},
    {")", ROLE_CLOSE},         {"]", ROLE_CLOSE},           {"}", ROLE_CLOSE},        {",", ROLE_SEPARATOR},
    {";", ROLE_SEPARATOR},     {"=", ROLE_SEPARATOR},       {"then", ROLE_SEPARATOR}, {"return", ROLE_SEPARATOR},
    {"local", ROLE_SEPARATOR}, {"while", ROLE_SEPARATOR},   {"for", ROLE_SEPARATOR},  {"in", ROLE_SEPARATOR},
    {"not", ROLE_NONE},        {"nil", ROLE_NONE},          {"true", ROLE_NONE},      {"false", ROLE_NONE},
};

static enum role role_of(const struct flume_scanner *scanner) {
  bool is_word = scanner->kind == FLUME_TOKEN_WORD;
  if (!is_word && scanner->kind != FLUME_TOKEN_OPERATOR) return ROLE_NONE;
  size_t len = (size_t)(scanner->p - scanner->token);
  for (size_t i = 0; len <= 8 && i < sizeof roles / sizeof *roles; i++) {
    if (*roles[i].text == *scanner->token && flume_token_is(scanner, roles[i].text)) return roles[i].role;
  }
  return is_word ? ROLE_NAME : ROLE_NONE;
}

static void open_level(struct estimate *e, bool is_function) {
  if (e->depth + 1 == LEVELS_MAX) return;
  uint32_t function = e->levels[e->depth].function;
  e->depth++;
  e->levels[e->depth] = (struct level){.function = is_function ? e->depth : function};
}

static void close_level(struct estimate *e) {
  struct level *level = &e->levels[e->depth];
  if (e->depth == 0) return;
  if (level->function == e->depth) e->around -= level->names;
  e->depth--;
}

static void add_name(struct estimate *e) {
  struct level *function = &e->levels[e->levels[e->depth].function];
  if (function->names < NAMES_MAX) {
    function->names++;
    e->around++;
  }
  e->compared += e->around;
}

static void add_token(struct estimate *e, const struct flume_scanner *scanner) {
  struct level *level = &e->levels[e->depth];
  assert(level->function <= e->depth);
  switch (role_of(scanner)) {
    case ROLE_NAME: add_name(e); break;
    case ROLE_OPEN: open_level(e, false); break;
    case ROLE_FUNCTION: open_level(e, true); break;
    case ROLE_CLOSE: close_level(e); break;
    case ROLE_BRANCH:
      e->links += level->branches++;
      level->logic = 0;
      break;
    case ROLE_LOGIC: e->links += level->logic++; break;
    case ROLE_JUMP: e->links += e->levels[level->function].jumps++; break;
    case ROLE_SEPARATOR: level->logic = 0; break;
    case ROLE_NONE: break;
  }
}

uint64_t flume_load_steps(const char *source, size_t len) {
  struct estimate e;
  struct flume_scanner scanner;
  e.levels[0] = (struct level){0};
  e.depth = 0;
  e.around = e.links = e.compared = 0;
  flume_scanner_start(&scanner, source, len);
  while (flume_scanner_next(&scanner)) add_token(&e, &scanner);
  return len + e.links * STEPS_PER_LINK + e.compared / NAMES_PER_STEP;
}

/* --- Compiling --------------------------------------------------------------------------------------------------- */

struct pieces {
  struct flume_budget *budget;
  const char *next;
  size_t left;
};

static const char *give_piece(lua_State *L, void *ud, size_t *len) {
  struct pieces *pieces = ud;
  const char *piece = pieces->next;
  *len = pieces->left < PIECE_BYTES ? pieces->left : PIECE_BYTES;
  pieces->next += *len;
  pieces->left -= *len;
  if (flume_budget_is_up(pieces->budget)) flume_budget_raise(L, pieces->budget);
  return *len > 0 ? piece : NULL;
}

static int compile(lua_State *L) {
  size_t len;
  const char *source = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_charge(L, budget, flume_load_steps(source, len));
  lua_settop(L, 3);
  struct pieces pieces = {budget, source, len};
  if (lua_load(L, give_piece, &pieces, name, "t") != LUA_OK) {
    if (budget != NULL && flume_budget_is_spent(budget)) return flume_budget_raise(L, budget);
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushvalue(L, 3);
  if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
  return 1;
}

void flume__load_open(lua_State *L) {
  lua_pushcfunction(L, compile);
  lua_setfield(L, -2, "compile");
}
