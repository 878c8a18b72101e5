/*
 * -object memsched: the host memory scheduler as an object of instance 0.
 *
 * Owns the running scheduler of the process: starts it when the object is
 * complete, stops it when the object goes.  The options are those of design
 * and qapi/memsched-objects.json; after the start they change by the command
 * memsched-set, so writing a property then is refused.
 *
 * Invariants: object->ms is the running scheduler or NULL.  The observer is
 * attached exactly while ms is not NULL.
 *
 * Threads: the main thread of instance 0, under the BQL.  Starting allocates
 * and touches the whole pool; nothing else of this instance goes on
 * meanwhile, so give a large pool on the command line, not by object-add.
 *
 * It knows no guests: those register with libmemsched themselves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-types-memsched-objects.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qom/object.h"
#include "qom/object_interfaces.h"
#include "system/instance-local.h"
#include "system/memsched-events.h"
#include "monitor/memsched-internal.h"

#define TYPE_MEMSCHED_OBJECT "memsched"
OBJECT_DECLARE_SIMPLE_TYPE(MemschedObject, MEMSCHED_OBJECT)

#define DEFAULT_INTERVAL_MS 1000
#define DEFAULT_IDLE_TAX_PCT 75
#define DEFAULT_SAMPLE_MS 30000

struct MemschedObject {
    Object parent_obj;

    uint64_t pool_bytes;
    uint64_t min_free_bytes;
    uint64_t held_memory_bytes;
    uint64_t swap_bytes;
    char *swap_path;
    MemschedPolicy policy;
    uint32_t interval_ms;
    uint32_t idle_tax_pct;
    uint32_t sample_ms;
    bool allow_inject;
    MemSched *ms;
};

static bool check_options(const MemschedObject *object, Error **errp)
{
    if (instance_id()) {
        error_setg(errp, "memsched is for the whole process: give it to "
                   "instance 0, not to guest '%s'", instance_id());
        return false;
    }
    if (!object->pool_bytes) {
        error_setg(errp, "memsched needs pool=SIZE, the host memory to spread "
                   "over the guests");
        return false;
    }
    if (object->interval_ms < 10 || object->interval_ms > 3600000) {
        error_setg(errp, "interval is in milliseconds, from 10 to 3600000");
        return false;
    }
    if (object->idle_tax_pct > 99) {
        error_setg(errp, "idle-tax is a percentage from 0 to 99");
        return false;
    }
    return true;
}

static void memsched_object_complete(UserCreatable *uc, Error **errp)
{
    MemschedObject *object = MEMSCHED_OBJECT(uc);
    MemSchedOptions options = {
        .id = object_get_canonical_path_component(OBJECT(uc)),
        .pool_bytes = object->pool_bytes,
        .min_free_bytes = object->min_free_bytes,
        .policy = memsched_policy_from_qapi(object->policy),
        .interval_ms = object->interval_ms,
        .idle_tax_pct = object->idle_tax_pct,
        .sample_ms = object->sample_ms,
        .allow_inject = object->allow_inject,
        .held_memory_bytes = object->held_memory_bytes,
        .swap_path = object->swap_path,
        .swap_bytes = object->swap_bytes,
    };
    MemSchedMessage message = { "" };
    MemSchedInfo info;
    int ret;

    if (!check_options(object, errp)) {
        return;
    }
    ret = memsched_start(&options, NULL, NULL, &object->ms, &message);
    if (ret < 0) {
        object->ms = NULL;
        if (message.text[0]) {
            error_setg(errp, "%s", message.text);
        } else {
            error_setg_errno(errp, -ret, "The memory scheduler does not "
                             "start");
        }
        return;
    }
    memsched_query(object->ms, &info);
    if (info.kernel.warning[0]) {
        warn_report("%s", info.kernel.warning);
    }
    memsched_events_start(object->ms);
}

/* Not while guests have memory of it. */
static bool memsched_object_can_be_deleted(UserCreatable *uc)
{
    MemschedObject *object = MEMSCHED_OBJECT(uc);

    return !object->ms || !memsched_query_clients(object->ms, NULL, 0);
}

/*
 * At the end of the process guests may still have memory of the scheduler:
 * then it stays until the process is gone.
 */
static void memsched_object_finalize(Object *obj)
{
    MemschedObject *object = MEMSCHED_OBJECT(obj);

    if (object->ms) {
        memsched_events_stop(object->ms);
        memsched_hold_end();
        memsched_stop(object->ms);
        memsched_hold_allow();
    }
    g_free(object->swap_path);
}

/* True and an error where it is too late for a property to be written. */
static bool started(Object *obj, const char *name, Error **errp)
{
    if (MEMSCHED_OBJECT(obj)->ms) {
        error_setg(errp, "%s cannot be written while the scheduler runs; "
                   "memsched-set changes what can be changed", name);
        return true;
    }
    return false;
}

static void get_size(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    uint64_t value = *(uint64_t *)((char *)obj + (uintptr_t)opaque);

    visit_type_size(v, name, &value, errp);
}

static void set_size(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    uint64_t value;

    if (!started(obj, name, errp) && visit_type_size(v, name, &value, errp)) {
        *(uint64_t *)((char *)obj + (uintptr_t)opaque) = value;
    }
}

static void get_uint32(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    uint32_t value = *(uint32_t *)((char *)obj + (uintptr_t)opaque);

    visit_type_uint32(v, name, &value, errp);
}

static void set_uint32(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    uint32_t value;

    if (!started(obj, name, errp) &&
        visit_type_uint32(v, name, &value, errp)) {
        *(uint32_t *)((char *)obj + (uintptr_t)opaque) = value;
    }
}

static int get_policy(Object *obj, Error **errp)
{
    return MEMSCHED_OBJECT(obj)->policy;
}

static void set_policy(Object *obj, int policy, Error **errp)
{
    if (!started(obj, "policy", errp)) {
        MEMSCHED_OBJECT(obj)->policy = policy;
    }
}

static char *get_swap_file(Object *obj, Error **errp)
{
    return g_strdup(MEMSCHED_OBJECT(obj)->swap_path);
}

static void set_swap_file(Object *obj, const char *value, Error **errp)
{
    if (!started(obj, "swap-file", errp)) {
        g_free(MEMSCHED_OBJECT(obj)->swap_path);
        MEMSCHED_OBJECT(obj)->swap_path = g_strdup(value);
    }
}

static bool get_allow_inject(Object *obj, Error **errp)
{
    return MEMSCHED_OBJECT(obj)->allow_inject;
}

static void set_allow_inject(Object *obj, bool value, Error **errp)
{
    if (!started(obj, "allow-inject", errp)) {
        MEMSCHED_OBJECT(obj)->allow_inject = value;
    }
}

static void memsched_object_init(Object *obj)
{
    MemschedObject *object = MEMSCHED_OBJECT(obj);

    object->policy = QAPI_MEMSCHED_POLICY_IDLE_TAX;
    object->interval_ms = DEFAULT_INTERVAL_MS;
    object->idle_tax_pct = DEFAULT_IDLE_TAX_PCT;
    object->sample_ms = DEFAULT_SAMPLE_MS;
}

static void add_size(ObjectClass *oc, const char *name, size_t field,
                     const char *description)
{
    /* The last argument of the accessors is the field's place. */
    object_class_property_add(oc, name, "size", get_size, set_size, NULL,
                              (void *)field);
    object_class_property_set_description(oc, name, description);
}

static void add_uint32(ObjectClass *oc, const char *name, size_t field,
                       const char *description)
{
    object_class_property_add(oc, name, "uint32", get_uint32, set_uint32, NULL,
                              (void *)field);
    object_class_property_set_description(oc, name, description);
}

#define FIELD(name) offsetof(MemschedObject, name)

static void memsched_object_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = memsched_object_complete;
    ucc->can_be_deleted = memsched_object_can_be_deleted;

    add_size(oc, "pool", FIELD(pool_bytes),
             "Host memory to spread over the guests");
    object_class_property_add_enum(oc, "policy", "MemschedPolicy",
                                   &MemschedPolicy_lookup, get_policy,
                                   set_policy);
    object_class_property_set_description(oc, "policy",
        "How it is divided: idle-tax, shares, static");
    add_uint32(oc, "interval", FIELD(interval_ms),
               "Milliseconds between two looks at all guests");
    add_uint32(oc, "idle-tax", FIELD(idle_tax_pct),
               "Percentage by which idle memory counts more");
    add_uint32(oc, "sample-interval", FIELD(sample_ms),
               "Milliseconds that sampled memory is out of its guest; 0: off");
    add_size(oc, "min-free", FIELD(min_free_bytes),
             "Bytes of the pool kept free ahead of demand");
    add_size(oc, "held-memory", FIELD(held_memory_bytes),
             "Bytes of the pool for compressed pages, when nothing else helps");
    object_class_property_add_str(oc, "swap-file", get_swap_file,
                                  set_swap_file);
    object_class_property_set_description(oc, "swap-file",
        "New file, or block device, for pages that do not compress");
    add_size(oc, "swap-size", FIELD(swap_bytes),
             "Bytes of the swap file");
    object_class_property_add_bool(oc, "allow-inject", get_allow_inject,
                                   set_allow_inject);
    object_class_property_set_description(oc, "allow-inject",
        "Permit memory errors to be injected, for tests");
}

static const TypeInfo memsched_object_info = {
    .name = TYPE_MEMSCHED_OBJECT,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(MemschedObject),
    .instance_init = memsched_object_init,
    .instance_finalize = memsched_object_finalize,
    .class_init = memsched_object_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    },
};

static void memsched_object_register_types(void)
{
    type_register_static(&memsched_object_info);
}

type_init(memsched_object_register_types)
