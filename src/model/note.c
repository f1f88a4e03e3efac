/*
 * model/note.c - gathers notes and writes one as a line.
 */
#include "model/note.h"

#include <stdarg.h>

void lt_notes_init(struct lt_notes *notes)
{
    *notes = (struct lt_notes){.arena = lt_arena_new(0, 0)};
}

void lt_notes_fini(struct lt_notes *notes)
{
    lt_vec_fini(&notes->vec);
    lt_arena_free(&notes->arena);
}

void lt_notes_clear(struct lt_notes *notes)
{
    lt_arena_reset(notes->arena);
    notes->vec.count = 0;
    notes->dropped = 0;
    notes->errors = 0;
}

void lt_notes_add(struct lt_notes *notes, const struct lt_note *note)
{
    notes->errors += note->level == LT_NOTE_ERROR;
    if (notes->vec.count >= LT_NOTES_MAX) {
        notes->dropped++;
        return;
    }
    struct lt_note *copy = lt_arena_make(notes->arena, struct lt_note);
    *copy = *note;
    copy->file = lt_arena_str(notes->arena, note->file);
    copy->object = lt_arena_str(notes->arena, note->object);
    copy->path = lt_arena_str(notes->arena, note->path);
    copy->text = lt_arena_str(notes->arena, note->text);
    lt_vec_push(&notes->vec, copy);
}

void lt_notes_addf(struct lt_notes *notes, const struct lt_note *where, const char *fmt, ...)
{
    char text[LT_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct lt_note note = *where;
    note.text = lt_str_of(text);
    lt_notes_add(notes, &note);
}

const char *lt_note_level_name(lt_note_level level)
{
    static const char *const names[] = {"info", "warning", "error"};
    LT_ASSERT(level < LT_ARRAY_LEN(names));
    return names[level];
}

static int cmp_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool was_told(const struct lt_told *told, uint64_t hash)
{
    return told->count > 0 &&
           bsearch(&hash, told->hashes, told->count, sizeof(hash), cmp_hashes) != NULL;
}

/* What is told now, and what was told the time before. */
struct telling {
    const struct lt_told *before;
    struct lt_told now;
    lt_told_fn *say;
    void *ctx;
};

/* Without the line, where an object is named: that moves with every edit above it. */
static uint64_t hash_note(const struct lt_note *note)
{
    char line[2048];
    struct lt_note placed = *note;
    if (note->object.len > 0)
        placed.line = 0;
    lt_note_format(&placed, line, sizeof(line));
    return lt_hash64(line, strlen(line), 0);
}

static void tell(struct telling *t, const struct lt_note *note)
{
    char line[2048];
    lt_note_format(note, line, sizeof(line));
    uint64_t hash = hash_note(note);
    if (!was_told(t->before, hash))
        t->say(t->ctx, note, line);
    t->now.hashes[t->now.count++] = hash;
}

void lt_told_tell(struct lt_told *told, const struct lt_notes *const *lists, size_t count,
                  lt_told_fn *say, void *ctx)
{
    size_t total = 0;
    for (size_t k = 0; k < count; k++)
        total += lists[k]->vec.count + 1;
    struct telling t = {.before = told, .say = say, .ctx = ctx};
    t.now.hashes = lt_calloc(total + 1, sizeof(*t.now.hashes));
    for (size_t k = 0; k < count; k++) {
        for (size_t i = 0; i < lists[k]->vec.count; i++)
            tell(&t, lt_notes_at(lists[k], i));
        char text[64];
        snprintf(text, sizeof(text), "and %zu more messages about manifests", lists[k]->dropped);
        if (lists[k]->dropped > 0)
            tell(&t, &(struct lt_note){.level = LT_NOTE_WARNING, .text = lt_str_of(text)});
    }
    lt_sort(t.now.hashes, t.now.count, sizeof(*t.now.hashes), cmp_hashes);
    lt_told_fini(told);
    *told = t.now;
}

void lt_told_fini(struct lt_told *told)
{
    free(told->hashes);
    *told = (struct lt_told){0};
}

char *lt_note_format(const struct lt_note *note, char *out, size_t size)
{
    char line[16] = "";
    if (note->line != 0)
        snprintf(line, sizeof(line), ":%u", note->line);
    snprintf(out, size, "%.*s%s%s%s: %.*s%s%.*s%s%.*s", LT_STR_ARG(note->file), line,
             note->file.len > 0 ? ": " : "", lt_note_level_name(note->level),
             LT_STR_ARG(note->object), note->object.len > 0 ? ": " : "", LT_STR_ARG(note->path),
             note->path.len > 0 ? ": " : "", LT_STR_ARG(note->text));
    return out;
}
