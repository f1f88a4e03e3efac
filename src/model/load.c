/*
 * model/load.c - files of manifests, what each said last, and what follows from all of them.
 * A file keeps its objects, and when it is read anew those that were refused are looked for among
 * them. Reading the directory is at the bottom; nothing else here touches the file system.
 */
#include "model/load.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "net/tree.h"
#include "wire/json.h"
#include "wire/yaml.h"

struct file {
    lt_str name;           /* owned */
    uint64_t hash;         /* of its text */
    struct lt_vec objects; /* struct lt_object *, counted */
    struct lt_notes notes;
    bool is_seen; /* by the walk that is going on */
};

struct lt_manifests {
    struct lt_map files;     /* name to struct file; owned */
    struct lt_vec in_force;  /* const struct lt_object *, borrowed from files and completed */
    struct lt_vec completed; /* struct lt_object *, counted */
    struct lt_notes notes;   /* of all files */
    lt_str live_dir;         /* owned; NULL: none */
    bool is_stale;           /* in_force and notes don't know the last change yet */
};

struct lt_manifests *lt_manifests_new(void)
{
    struct lt_manifests *m = lt_new(struct lt_manifests);
    lt_map_init(&m->files);
    lt_notes_init(&m->notes);
    return m;
}

static void clear_objects(struct lt_vec *objects)
{
    for (size_t i = 0; i < objects->count; i++)
        lt_object_unref((struct lt_object **)&objects->items[i]);
    lt_vec_fini(objects);
}

static void free_file(struct file *file)
{
    clear_objects(&file->objects);
    lt_notes_fini(&file->notes);
    free((char *)file->name.ptr);
    free(file);
}

void lt_manifests_free(struct lt_manifests **manifests)
{
    struct lt_manifests *m = *manifests;
    *manifests = NULL;
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->files.count; i++)
        free_file(m->files.entries[i].value);
    lt_map_fini(&m->files);
    lt_vec_fini(&m->in_force);
    clear_objects(&m->completed);
    lt_notes_fini(&m->notes);
    free((char *)m->live_dir.ptr);
    free(m);
}

static lt_str cut_slashes(lt_str dir)
{
    while (dir.len > 1 && dir.ptr[dir.len - 1] == '/')
        dir.len--;
    return dir;
}

static bool is_below(lt_str name, lt_str dir)
{
    return dir.len > 0 && lt_str_starts(name, dir) && name.len > dir.len &&
           name.ptr[dir.len] == '/';
}

void lt_manifests_set_live(struct lt_manifests *manifests, lt_str dir)
{
    LT_ASSERT(manifests->files.count == 0 && manifests->live_dir.ptr == NULL);
    dir = cut_slashes(dir);
    manifests->live_dir = lt_str_make(lt_str_dupz(dir), dir.len);
}

/* ---- one file ---- */

static struct lt_object *find_object(const struct lt_vec *objects, const struct lt_object_key *key)
{
    for (size_t i = 0; i < objects->count; i++) {
        struct lt_object *object = objects->items[i];
        if (lt_object_key_eq(&object->key, key))
            return object;
    }
    return NULL;
}

/* A file being read anew, with what it said before. */
struct reading {
    struct file *file;
    struct lt_vec before; /* borrowed objects */
    struct lt_vec after;  /* counted objects */
    struct lt_map by_key; /* of after; keys are text in keys */
    struct lt_arena *keys;
    struct lt_share *share; /* of the new objects */
    bool has_lost_one;      /* a document that doesn't even say which object it is */
};

static void note_kept(struct reading *r, const struct lt_object *kept)
{
    char name[LT_OBJECT_NAME_MAX];
    struct lt_note note = lt_object_note(kept, LT_NOTE_INFO, name);
    lt_notes_addf(&r->file->notes, &note, "the object stays as it was before the error");
}

/*
 * Takes over the count; the object that was there already, if there was one, is returned and
 * nothing is taken.
 */
static const struct lt_object *add_object(struct reading *r, struct lt_object *object)
{
    char name[LT_OBJECT_NAME_MAX];
    lt_str key = lt_arena_str(r->keys, lt_str_of(lt_object_key_format(&object->key, name)));
    const struct lt_object *twin = lt_map_find(&r->by_key, key);
    if (twin != NULL)
        return twin;
    lt_map_put(&r->by_key, key, object);
    lt_vec_push(&r->after, object);
    return NULL;
}

static void keep(struct reading *r, struct lt_object *object)
{
    struct lt_object *counted = lt_object_ref(object);
    if (add_object(r, counted) == NULL)
        note_kept(r, object);
    else
        lt_object_unref(&counted);
}

static void read_object(struct reading *r, const struct lt_doc *doc)
{
    struct lt_object_key key;
    struct lt_object *object = NULL;
    lt_rc rc = lt_object_read(doc, r->file->name, r->share, &r->file->notes, &key, &object);
    if (rc == LT_E_UNSUPPORTED)
        return;
    if (rc != LT_OK) {
        struct lt_object *predecessor = key.name.len > 0 ? find_object(&r->before, &key) : NULL;
        if (predecessor != NULL)
            keep(r, predecessor);
        r->has_lost_one |= key.name.len == 0;
        return;
    }
    const struct lt_object *twin = add_object(r, object);
    if (twin != NULL) {
        char name[LT_OBJECT_NAME_MAX];
        struct lt_note note = lt_object_note(object, LT_NOTE_ERROR, name);
        lt_notes_addf(&r->file->notes, &note,
                      "duplicate of the object in line %u; this one is refused", twin->line);
        lt_object_unref(&object);
    }
}

/* A document: an object, a List of them, or nothing. */
static void read_document(struct reading *r, const struct lt_doc *doc)
{
    if (doc->kind == LT_DOC_NULL)
        return;
    const struct lt_doc *items = lt_doc_findz(doc, "items");
    bool is_list = lt_str_ends(lt_doc_string(lt_doc_findz(doc, "kind")), LT_STR("List")) &&
                   lt_doc_is(items, LT_DOC_ARRAY);
    if (!is_list) {
        read_object(r, doc);
        return;
    }
    for (uint32_t i = 0; i < items->count; i++)
        read_object(r, &items->items[i]);
}

static void note_unreadable(struct reading *r, uint32_t line, const struct lt_err *err,
                            const char *hint)
{
    struct lt_note note = {.level = LT_NOTE_ERROR, .file = r->file->name, .line = line};
    unsigned at = 0, column = 0;
    int used = 0;
    /* the parsers begin with the place of the mistake, which is better than that of the document */
    bool has_place = (sscanf(err->text, "line %u, column %u: %n", &at, &column, &used) == 2 ||
                      sscanf(err->text, "line %u: %n", &at, &used) == 1) &&
                     used > 0;
    if (has_place)
        note.line = at;
    lt_notes_addf(&r->file->notes, &note, "%s%s", err->text + used, hint);
    r->has_lost_one = true;
}

static void read_yaml(struct reading *r, lt_str text)
{
    struct lt_yaml_split split = lt_yaml_split_init(text);
    struct lt_yaml_part part;
    struct lt_arena *scratch = lt_arena_new(0, 0);
    while (lt_yaml_split_next(&split, &part)) {
        const struct lt_doc *doc = NULL;
        struct lt_err err = {0};
        if (lt_yaml_parse(scratch, part, NULL, &doc, &err) == LT_OK)
            read_document(r, doc);
        else
            note_unreadable(r, part.line, &err,
                            lt_str_find(part.text, LT_STR("{{")) < 0
                                ? ""
                                : "; a template with {{ }} must be rendered first");
        lt_arena_reset(scratch);
    }
    lt_arena_free(&scratch);
}

static void read_json(struct reading *r, lt_str text)
{
    struct lt_arena *scratch = lt_arena_new(0, 0);
    const struct lt_doc *doc = NULL;
    struct lt_err err = {0};
    if (lt_json_parse(scratch, text, NULL, &doc, &err) == LT_OK)
        read_document(r, doc);
    else
        note_unreadable(r, 0, &err, "");
    lt_arena_free(&scratch);
}

static struct file *get_file(struct lt_manifests *m, lt_str name)
{
    struct file *file = lt_map_find(&m->files, name);
    if (file != NULL)
        return file;
    file = lt_new(struct file);
    file->name = lt_str_make(lt_str_dupz(name), name.len);
    lt_notes_init(&file->notes);
    lt_map_put(&m->files, file->name, file);
    return file;
}

void lt_manifests_put(struct lt_manifests *manifests, lt_str name, lt_str text)
{
    struct file *file = get_file(manifests, name);
    uint64_t hash = lt_hash64(text.ptr, text.len, 1);
    if (file->hash == hash)
        return;
    file->hash = hash;
    manifests->is_stale = true;
    lt_notes_clear(&file->notes);
    struct reading r = {
        .file = file, .before = file->objects, .keys = lt_arena_new(0, 0), .share = lt_share_new()};
    lt_map_init(&r.by_key);
    if (text.len > LT_MANIFEST_BYTES_MAX) {
        struct lt_err err;
        lt_err_set(&err, LT_E_LIMIT, "expected at most %d bytes, got %zu", LT_MANIFEST_BYTES_MAX,
                   text.len);
        note_unreadable(&r, 0, &err, "");
    } else if (lt_str_ends(name, LT_STR(".json"))) {
        read_json(&r, text);
    } else {
        read_yaml(&r, text);
    }
    /* an unreadable document may have been any of the objects that are missed now */
    for (size_t i = 0; i < r.before.count && r.has_lost_one; i++)
        keep(&r, r.before.items[i]);
    file->objects = r.after;
    clear_objects(&r.before);
    lt_map_fini(&r.by_key);
    lt_arena_free(&r.keys);
    lt_share_seal(r.share);
    lt_share_unref(&r.share);
}

void lt_manifests_remove(struct lt_manifests *manifests, lt_str name)
{
    struct file *file = lt_map_remove(&manifests->files, name);
    if (file == NULL)
        return;
    manifests->is_stale = true;
    free_file(file);
}

void lt_manifests_fail(struct lt_manifests *manifests, lt_str name, const struct lt_err *err)
{
    struct file *file = get_file(manifests, name);
    struct reading r = {.file = file};
    bool is_known = file->hash == 0 && file->notes.vec.count == 1 &&
                    lt_str_ends(lt_str_of(err->text), lt_notes_at(&file->notes, 0)->text);
    if (is_known)
        return;
    manifests->is_stale = true;
    file->hash = 0;
    lt_notes_clear(&file->notes);
    note_unreadable(&r, 0, err, "");
}

/* ---- all files ---- */

static int cmp_files(const void *a, const void *b)
{
    const struct lt_map_entry *x = a, *y = b;
    return lt_str_cmp(x->key, y->key);
}

static int cmp_objects(const void *a, const void *b)
{
    const struct lt_object *x = *(const struct lt_object *const *)a,
                           *y = *(const struct lt_object *const *)b;
    return lt_object_key_cmp(&x->key, &y->key);
}

/*
 * Sorted by key, equal keys in the order of files: the first of each stays, completed by a live
 * one; the others are told.
 */
static void settle_twins(struct lt_manifests *m, struct lt_share *share)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->in_force.count; i++) {
        const struct lt_object *object = m->in_force.items[i];
        const struct lt_object *last = kept > 0 ? m->in_force.items[kept - 1] : NULL;
        if (last == NULL || !lt_object_key_eq(&last->key, &object->key)) {
            m->in_force.items[kept++] = (void *)object;
            continue;
        }
        bool is_live = is_below(object->file, m->live_dir);
        if (is_live != is_below(last->file, m->live_dir)) {
            struct lt_object *whole = is_live ? lt_object_complete(share, last, object)
                                              : lt_object_complete(share, object, last);
            lt_vec_push(&m->completed, whole);
            m->in_force.items[kept - 1] = whole;
            continue;
        }
        char name[LT_OBJECT_NAME_MAX];
        struct lt_note note = lt_object_note(object, LT_NOTE_ERROR, name);
        lt_notes_addf(&m->notes, &note, "duplicate of the object in %.*s:%u; this one is refused",
                      LT_STR_ARG(last->file), last->line);
    }
    m->in_force.count = kept;
}

static int cmp_objects_and_files(const void *a, const void *b)
{
    int order = cmp_objects(a, b);
    const struct lt_object *x = *(const struct lt_object *const *)a,
                           *y = *(const struct lt_object *const *)b;
    return order != 0 ? order : lt_str_cmp(x->file, y->file);
}

static void refresh(struct lt_manifests *m)
{
    m->in_force.count = 0;
    clear_objects(&m->completed);
    lt_notes_clear(&m->notes);
    size_t count = m->files.count;
    struct lt_map_entry *files = lt_malloc(count * sizeof(*files) + 1);
    memcpy(files, m->files.entries, count * sizeof(*files));
    lt_sort(files, count, sizeof(*files), cmp_files);
    for (size_t i = 0; i < count; i++) {
        const struct file *file = files[i].value;
        for (size_t j = 0; j < file->notes.vec.count; j++)
            lt_notes_add(&m->notes, lt_notes_at(&file->notes, j));
        for (size_t j = 0; j < file->objects.count; j++)
            lt_vec_push(&m->in_force, file->objects.items[j]);
    }
    free(files);
    lt_sort(m->in_force.items, m->in_force.count, sizeof(void *), cmp_objects_and_files);
    struct lt_share *share = lt_share_new(); /* of what is completed */
    settle_twins(m, share);
    lt_share_seal(share);
    lt_share_unref(&share);
    m->is_stale = false;
}

bool lt_manifests_have_changed(const struct lt_manifests *manifests)
{
    return manifests->is_stale;
}

const struct lt_object *const *lt_manifests_objects(struct lt_manifests *manifests,
                                                    size_t *ret_count,
                                                    const struct lt_notes **ret_notes)
{
    if (manifests->is_stale)
        refresh(manifests);
    *ret_count = manifests->in_force.count;
    if (ret_notes != NULL)
        *ret_notes = &manifests->notes;
    return (const struct lt_object *const *)manifests->in_force.items;
}

/* ---- the file system ---- */

bool lt_manifest_is_name(lt_str name)
{
    ptrdiff_t slash = lt_str_rfind_char(name, '/');
    lt_str base = lt_str_from(name, (size_t)(slash + 1));
    if (base.len == 0 || base.ptr[0] == '.' || base.ptr[0] == '#')
        return false;
    return lt_str_ends(base, LT_STR(".yaml")) || lt_str_ends(base, LT_STR(".yml")) ||
           lt_str_ends(base, LT_STR(".json"));
}

/* Reads until the end or the limit. */
static lt_rc read_fd(int fd, const char *path, char **ret_text, size_t *ret_len, struct lt_err *err)
{
    size_t cap = 1 << 16, len = 0;
    char *text = lt_malloc(cap);
    for (;;) {
        ssize_t n = read(fd, text + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(text);
            return lt_err_errno(err, "can't read %s", path);
        }
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > LT_MANIFEST_BYTES_MAX) {
            free(text);
            return lt_err_set(err, LT_E_LIMIT, "%s is larger than %d bytes", path,
                              LT_MANIFEST_BYTES_MAX);
        }
        if (len == cap)
            text = lt_realloc(text, cap *= 2);
    }
    /* editors of other systems begin a file with a byte order mark */
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        len -= 3;
        memmove(text, text + 3, len);
    }
    *ret_text = text;
    *ret_len = len;
    return LT_OK;
}

lt_rc lt_manifest_read_file(const char *path, char **ret_text, size_t *ret_len, struct lt_err *err)
{
    /* a FIFO of this name must not hold us up */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return lt_err_errno(err, "can't open %s", path);
    struct stat st;
    lt_rc rc;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        rc = lt_err_set(err, LT_E_BAD, "%s is no regular file", path);
    else
        rc = read_fd(fd, path, ret_text, ret_len, err);
    close(fd);
    return rc;
}

struct walk {
    struct lt_manifests *manifests;
    size_t files;
};

static void load_file(void *ctx, const char *path, bool is_link LT_UNUSED)
{
    struct walk *walk = ctx;
    char *text = NULL;
    size_t len = 0;
    struct lt_err err = {0};
    lt_str name = lt_str_of(path);
    if (!lt_manifest_is_name(name) || ++walk->files > LT_MANIFEST_FILES_MAX)
        return;
    struct file *file = get_file(walk->manifests, name);
    file->is_seen = true;
    if (lt_manifest_read_file(path, &text, &len, &err) == LT_OK)
        lt_manifests_put(walk->manifests, name, lt_str_make(text, len));
    else
        lt_manifests_fail(walk->manifests, name, &err);
    free(text);
}

/* A directory in it that can't be read is a note; what was in it stays. */
static void miss_dir(void *ctx, const char *path, const struct lt_err *err)
{
    struct walk *walk = ctx;
    struct lt_map *files = &walk->manifests->files;
    for (size_t i = 0; i < files->count; i++) {
        struct file *file = files->entries[i].value;
        file->is_seen |= is_below(file->name, lt_str_of(path));
    }
    lt_manifests_fail(walk->manifests, lt_str_of(path), err);
    get_file(walk->manifests, lt_str_of(path))->is_seen = true;
}

/* A file below dir that the walk did not meet is gone. */
static void forget_unseen(struct lt_manifests *m, lt_str dir)
{
    for (size_t i = m->files.count; i > 0; i--) {
        const struct file *file = m->files.entries[i - 1].value;
        if (is_below(file->name, dir) && !file->is_seen)
            lt_manifests_remove(m, file->name);
    }
}

lt_rc lt_manifests_load_dir(struct lt_manifests *manifests, lt_str dir, struct lt_err *err)
{
    dir = cut_slashes(dir);
    char *path = lt_str_dupz(dir);
    struct walk walk = {.manifests = manifests};
    const struct lt_tree_visitor visitor = {
        .on_file = load_file, .on_error = miss_dir, .ctx = &walk};
    for (size_t i = 0; i < manifests->files.count; i++)
        ((struct file *)manifests->files.entries[i].value)->is_seen = false;
    lt_rc rc = lt_tree_walk(path, &visitor, err);
    if (rc == LT_OK && walk.files > LT_MANIFEST_FILES_MAX)
        rc = lt_err_set(err, LT_E_LIMIT, "more than %d manifests in %s", LT_MANIFEST_FILES_MAX,
                        path);
    if (rc == LT_OK)
        forget_unseen(manifests, dir);
    free(path);
    return rc;
}
