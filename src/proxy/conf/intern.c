/*
 * proxy/conf/intern.c - counted texts. Start at: px_text_make().
 */
#include "proxy/conf/intern.h"

#include <stddef.h>
#include <stdlib.h>

struct px_text {
    struct px_interns *owner;
    size_t len;
    uint32_t refs;
    char bytes[]; /* len of them, none of them NUL, and a NUL */
};

static struct px_text *text_of(const char *bytes)
{
    return (struct px_text *)((char *)(uintptr_t)bytes - offsetof(struct px_text, bytes));
}

void px_interns_init(struct px_interns *interns)
{
    lt_map_init(&interns->texts);
}

void px_interns_fini(struct px_interns *interns)
{
    LT_ASSERT(interns->texts.count == 0);
    lt_map_fini(&interns->texts);
}

const char *px_text_make(struct px_interns *interns, lt_str text)
{
    ptrdiff_t nul = lt_str_find_char(text, '\0');
    if (nul >= 0)
        text = lt_str_slice(text, 0, (size_t)nul);
    if (text.len == 0)
        return "";
    struct px_text *known = lt_map_find(&interns->texts, text);
    if (known != NULL)
        return px_text_take(known->bytes);
    struct px_text *made = lt_malloc(sizeof(*made) + text.len + 1);
    *made = (struct px_text){interns, text.len, 1};
    memcpy(made->bytes, text.ptr, text.len);
    made->bytes[text.len] = '\0';
    lt_map_put(&interns->texts, lt_str_make(made->bytes, text.len), made);
    return made->bytes;
}

const char *px_text_take(const char *text)
{
    if (text[0] != '\0')
        text_of(text)->refs++;
    return text;
}

void px_text_drop(const char **text)
{
    const char *bytes = *text;
    *text = "";
    if (bytes[0] == '\0')
        return;
    struct px_text *dropped = text_of(bytes);
    LT_ASSERT(dropped->refs > 0);
    if (--dropped->refs > 0)
        return;
    lt_map_remove(&dropped->owner->texts, lt_str_make(dropped->bytes, dropped->len));
    free(dropped);
}

void px_text_set(const char **text, const char *to)
{
    px_text_drop(text);
    *text = to;
}
