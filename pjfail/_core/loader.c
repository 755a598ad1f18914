/*
 * loader.c: the shared objects of this process, as the dynamic loader knows them.
 *
 * Called by Python threads; no lock of ours. A path here is the loader's own name for an object, which stays valid
 * whatever happens to the file: a program goes on running after pip has replaced it. "" is the main program, which
 * dl_iterate_phdr() tells first; only glibc has no other name for it. Only glibc has dladdr1().
 */
#include "loader.h"

#include "pjfail.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

struct paths {
    char *text;
    size_t room, length;
    int objects;
};

/* Appends one object's name, and is called back under a lock of the loader's. A Python thread. */
static int loader_append(struct dl_phdr_info *object, size_t size, void *argument)
{
    struct paths *paths = argument;
    size_t length = strlen(object->dlpi_name) + 1;

    (void)size;
    if (paths->objects++ == 0 || length == 1) /* the main program, or an object that has no file */
        return 0;
    if (paths->length + length <= paths->room)
        memcpy(paths->text + paths->length, object->dlpi_name, length);
    paths->length += length;
    return 0;
}

int pf_loaded_objects(char *paths, int size)
{
    struct paths found = { paths, (size_t)size, 0, 0 };

    dl_iterate_phdr(&loader_append, &found);
    return (int)found.length;
}

struct holder {
    uintptr_t address;
    int objects; /* those asked, up to the one that holds the address */
    struct dl_phdr_info object;
};

/* Ends the search, with 1, at the object that holds the address. A Python thread, under a lock of the loader's. */
static int loader_holds(struct dl_phdr_info *object, size_t size, void *argument)
{
    struct holder *holder = argument;
    int i;

    (void)size;
    holder->objects++;
    for (i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];

        if (segment->p_type == PT_LOAD && holder->address - (object->dlpi_addr + segment->p_vaddr) < segment->p_memsz) {
            holder->object = *object;
            return 1;
        }
    }
    return 0;
}

const char *pf_object_of(const void *address)
{
    struct holder holder = { .address = (uintptr_t)address };

    if (!dl_iterate_phdr(&loader_holds, &holder))
        return NULL;
    return holder.objects == 1 ? "" : holder.object.dlpi_name;
}

/* Returns how many symbols an object exports, by one of the two hash tables that an object may have. */
static size_t loader_count_symbols(const uint32_t *sysv, const uint32_t *gnu)
{
    const uint32_t *buckets, *chain;
    uint32_t last = 0, i;

    if (sysv)
        return sysv[1];
    if (!gnu)
        return 0;
    buckets = gnu + 4 + gnu[2] * (sizeof(ElfW(Addr)) / sizeof *gnu);
    chain = buckets + gnu[0] - gnu[1]; /* gnu[1] is the first symbol that has a place in the chain */
    for (i = 0; i < gnu[0]; i++)
        last = buckets[i] > last ? buckets[i] : last;
    while (last && !(chain[last] & 1))
        last++;
    return last ? last + 1 : 0;
}

size_t loader_size_of(const void *variable)
{
    struct holder holder = { .address = (uintptr_t)variable };
    const ElfW(Dyn) *entry = NULL;
    const ElfW(Sym) *symbols = NULL;
    const uint32_t *sysv = NULL, *gnu = NULL;
    size_t count;
    int i;

    if (!dl_iterate_phdr(&loader_holds, &holder))
        return 0;
    for (i = 0; i < holder.object.dlpi_phnum; i++)
        if (holder.object.dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const void *)(holder.object.dlpi_addr + holder.object.dlpi_phdr[i].p_vaddr);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        /* glibc has made addresses of these; musl leaves the offsets. */
        uintptr_t at = entry->d_un.d_ptr + (entry->d_un.d_ptr < holder.object.dlpi_addr ? holder.object.dlpi_addr : 0);

        if (entry->d_tag == DT_SYMTAB)
            symbols = (const void *)at;
        else if (entry->d_tag == DT_HASH)
            sysv = (const void *)at;
        else if (entry->d_tag == DT_GNU_HASH)
            gnu = (const void *)at;
    }
    for (count = symbols ? loader_count_symbols(sysv, gnu) : 0; count-- > 0;)
        if (symbols[count].st_shndx != SHN_UNDEF && holder.object.dlpi_addr + symbols[count].st_value == holder.address)
            return symbols[count].st_size;
    return 0;
}

void *loader_open(const char *object)
{
    void *handle = dlopen(object, RTLD_LAZY | RTLD_NOLOAD);

#ifndef __GLIBC__
    /* musl looks at the file, which may have been deleted or replaced; but its handle is the object's entry in this list. */
    if (!handle && object) {
        struct link_map *each = NULL;

        dlinfo(dlopen(NULL, RTLD_LAZY), RTLD_DI_LINKMAP, &each);
        while (each && strcmp(each->l_name, object))
            each = each->l_next;
        handle = each;
    }
#endif
    return handle;
}

const char *pf_object(const char *path)
{
    void *handle = loader_open(path);
    struct link_map *object;
    const char *name = NULL;

    if (!handle)
        return NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &object) == 0)
        name = object->l_name;
    dlclose(handle); /* this only drops our own reference: the object stays loaded */
    return name;
}

void *pf_symbol(const char *object, const char *name)
{
    void *handle = loader_open(object), *symbol;

    if (!handle)
        return NULL;
    symbol = dlsym(handle, name);
    dlclose(handle);
    return symbol;
}

const void *pf_pjsip_data(const char *object)
{
    const void *(*data)(void);
    void *symbol = pf_symbol(object, "pjsip_get_options_method");

    memcpy(&data, &symbol, sizeof data);
    return data ? data() : NULL;
}
