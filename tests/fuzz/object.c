/*
 * tests/fuzz/object.c - aims at lt_manifests_put: a manifest of any bytes, from its documents to objects
 * in force and notes about the rest. First byte: bit 0 JSON instead of YAML; bit 1 a second file with
 * the same text, whose objects are duplicates.
 * What must hold: the notes can be written, and a file that goes takes its objects with it.
 */
#include <stdlib.h>

#include "model/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_notes(const struct lt_notes *notes)
{
    char line[1024];
    for (size_t i = 0; i < notes->vec.count; i++)
        LT_ASSERT(strlen(lt_note_format(lt_notes_at(notes, i), line, sizeof(line))) < sizeof(line));
}

static size_t look(struct lt_manifests *manifests)
{
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    const struct lt_object *const *objects = lt_manifests_objects(manifests, &count, &notes);
    for (size_t i = 0; i < count; i++)
        LT_ASSERT(objects[i]->key.name.len > 0);
    check_notes(notes);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    lt_str text = lt_str_make(data + 1, size - 1);
    lt_str first = (data[0] & 1) != 0 ? LT_STR("a.json") : LT_STR("a.yaml");
    lt_str second = (data[0] & 1) != 0 ? LT_STR("b.json") : LT_STR("b.yaml");
    struct lt_manifests *manifests = lt_manifests_new();
    lt_manifests_put(manifests, first, text);
    size_t count = look(manifests);
    if ((data[0] & 2) != 0) {
        lt_manifests_put(manifests, second, text);
        LT_ASSERT(look(manifests) == count);
        lt_manifests_remove(manifests, second);
        LT_ASSERT(look(manifests) == count);
    }
    lt_manifests_remove(manifests, first);
    LT_ASSERT(look(manifests) == 0);
    lt_manifests_free(&manifests);
    return 0;
}
