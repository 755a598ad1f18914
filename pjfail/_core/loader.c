/*
 * loader.c: the shared objects of this process, as the dynamic loader knows them.
 *
 * Called by Python threads; no lock of ours. A path here is the loader's own name for an object, which stays valid
 * whatever happens to the file: a program goes on running after pip has replaced it. "" is the main program.
 */
#include "pjfail.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

struct paths {
    char *text;
    size_t room, length;
};

/* Appends one object's name, and is called back under a lock of the loader's. A Python thread. */
static int loader_append(struct dl_phdr_info *object, size_t size, void *argument)
{
    struct paths *paths = argument;
    size_t length = strlen(object->dlpi_name) + 1;

    (void)size;
    if (length > 1 && paths->length + length <= paths->room)
        memcpy(paths->text + paths->length, object->dlpi_name, length);
    paths->length += length > 1 ? length : 0;
    return 0;
}

int pf_loaded_objects(char *paths, int size)
{
    struct paths found = { paths, (size_t)size, 0 };

    dl_iterate_phdr(&loader_append, &found);
    return (int)found.length;
}

const char *pf_object_of(const void *address)
{
    Dl_info info;
    struct link_map *object;

    return dladdr1(address, &info, (void **)&object, RTLD_DL_LINKMAP) ? object->l_name : NULL;
}

const char *pf_object(const char *path)
{
    void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
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
    void *handle = dlopen(object, RTLD_LAZY | RTLD_NOLOAD), *symbol;

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
