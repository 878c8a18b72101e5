/*
 * -object guest: a further guest of this process, as an object of instance 0.
 *
 * Owns the wish, not the guest: the object holds what the guest is to be
 * started with, and the launcher's table holds the guest.  Objects of the
 * command line wait until instance 0 is ready, so that their order does not
 * matter, and the scheduler runs before the first guest registers with it.
 * object-add returns when the guest is being loaded, object-del when it has
 * been told to end; query-memsched-guests and MEMSCHED_GUEST_STATE tell more.
 *
 * Invariants: waiting has the objects that are complete and not started;
 * started is set when the launcher has the guest.
 *
 * Threads: the main thread of instance 0, under the BQL; guest_changed()
 * anywhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qemu/queue.h"
#include "qom/object.h"
#include "qom/object_interfaces.h"
#include "system/instance-local.h"
#include "system/memsched-events.h"

#define TYPE_GUEST_OBJECT "guest"
OBJECT_DECLARE_SIMPLE_TYPE(GuestObject, GUEST_OBJECT)

struct GuestObject {
    Object parent_obj;

    char *id;                   /* kept: at its end it has no path any more */
    char *args_file;
    strList *args;
    bool has_args;
    uint64_t min_bytes;
    uint64_t max_bytes;
    uint32_t shares;
    bool started;
    bool queued;
    QTAILQ_ENTRY(GuestObject) next;
};

static QTAILQ_HEAD(, GuestObject) waiting = QTAILQ_HEAD_INITIALIZER(waiting);
static bool ready;              /* instance 0 is set up */

static void guest_changed(void *opaque, const GuestInfo *info)
{
    static const MemschedGuestState states[] = {
        [GUEST_LOADING] = QAPI_MEMSCHED_GUEST_STATE_LOADING,
        [GUEST_RUNNING] = QAPI_MEMSCHED_GUEST_STATE_RUNNING,
        [GUEST_STOPPING] = QAPI_MEMSCHED_GUEST_STATE_STOPPING,
        [GUEST_STOPPED] = QAPI_MEMSCHED_GUEST_STATE_STOPPED,
        [GUEST_FAILED] = QAPI_MEMSCHED_GUEST_STATE_FAILED,
    };

    memsched_events_guest_state(info->id, states[info->state], info->message);
}

static bool start(GuestObject *guest, Error **errp)
{
    g_autofree char **args = NULL;
    MemSchedMessage message = { "" };
    GuestOptions options = {
        .id = object_get_canonical_path_component(OBJECT(guest)),
        .args_file = guest->args_file,
        .min_bytes = guest->min_bytes,
        .max_bytes = guest->max_bytes,
        .shares = guest->shares,
    };
    size_t count = 0;

    if (guest->has_args) {
        args = g_new0(char *, QAPI_LIST_LENGTH(guest->args) + 1);
        for (strList *arg = guest->args; arg; arg = arg->next) {
            args[count++] = arg->value;
        }
        options.args = args;
    }
    instance_ops()->observe(guest_changed, NULL);
    if (instance_ops()->start(&options, &message) < 0) {
        error_setg(errp, "%s", message.text);
        return false;
    }
    guest->id = g_strdup(options.id);
    guest->started = true;
    return true;
}

void guest_objects_start(void)
{
    GuestObject *guest;

    ready = true;
    while ((guest = QTAILQ_FIRST(&waiting))) {
        Error *error = NULL;

        QTAILQ_REMOVE(&waiting, guest, next);
        guest->queued = false;
        if (!start(guest, &error)) {
            error_report_err(error);
        }
    }
}

/* An id is a name of a thread, of files, and of a client of the scheduler. */
static bool check_options(GuestObject *guest, Error **errp)
{
    const char *id = object_get_canonical_path_component(OBJECT(guest));

    if (!instance_ops()) {
        error_setg(errp, "guests need the launcher, build/qemu-system-x86_64; "
                   "this program is a single QEMU");
    } else if (instance_guest()) {
        error_setg(errp, "a guest cannot have guests; give -object guest to "
                   "qemu-system-x86_64 itself");
    } else if (strlen(id) >= MEMSCHED_ID_MAX) {
        error_setg(errp, "the id of a guest has at most %d characters",
                   MEMSCHED_ID_MAX - 1);
    } else if (!strcmp(id, MEMSCHED_MAIN_ID)) {
        error_setg(errp, "'main' is the guest of the process's own command "
                   "line; choose another id");
    } else if (!guest->has_args == !guest->args_file) {
        error_setg(errp, "guest '%s' needs either args-file=PATH or args, its "
                   "command line", id);
    } else if (guest->has_args && !guest->args) {
        error_setg(errp, "args of guest '%s' is empty; it is to be its command "
                   "line", id);
    } else if (guest->max_bytes && guest->min_bytes > guest->max_bytes) {
        error_setg(errp, "min of guest '%s' is above its max", id);
    } else {
        return true;
    }
    return false;
}

static void guest_object_complete(UserCreatable *uc, Error **errp)
{
    GuestObject *guest = GUEST_OBJECT(uc);

    if (!check_options(guest, errp)) {
        return;
    }
    if (ready) {
        start(guest, errp);
        return;
    }
    guest->queued = true;
    QTAILQ_INSERT_TAIL(&waiting, guest, next);
}

static void guest_object_finalize(Object *obj)
{
    GuestObject *guest = GUEST_OBJECT(obj);

    if (guest->queued) {
        QTAILQ_REMOVE(&waiting, guest, next);
    }
    if (guest->started) {
        instance_ops()->remove(guest->id);
    }
    g_free(guest->id);
    g_free(guest->args_file);
    qapi_free_strList(guest->args);
}

static char *get_args_file(Object *obj, Error **errp)
{
    return g_strdup(GUEST_OBJECT(obj)->args_file);
}

static void set_args_file(Object *obj, const char *value, Error **errp)
{
    GuestObject *guest = GUEST_OBJECT(obj);

    g_free(guest->args_file);
    guest->args_file = g_strdup(value);
}

static void get_args(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    visit_type_strList(v, name, &GUEST_OBJECT(obj)->args, errp);
}

static void set_args(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    GuestObject *guest = GUEST_OBJECT(obj);
    strList *args = NULL;

    if (visit_type_strList(v, name, &args, errp)) {
        qapi_free_strList(guest->args);
        guest->args = args;
        guest->has_args = true;
    }
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
    visit_type_size(v, name, (uint64_t *)((char *)obj + (uintptr_t)opaque),
                    errp);
}

static void get_shares(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_uint32(v, name, &GUEST_OBJECT(obj)->shares, errp);
}

static void set_shares(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_uint32(v, name, &GUEST_OBJECT(obj)->shares, errp);
}

/* The last argument of the accessors is the field's place in the object. */
#define FIELD(name) ((void *)offsetof(GuestObject, name))

static void guest_object_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = guest_object_complete;

    object_class_property_add_str(oc, "args-file", get_args_file,
                                  set_args_file);
    object_class_property_set_description(oc, "args-file",
        "File with the guest's command line");
    object_class_property_add(oc, "args", "strList", get_args, set_args, NULL,
                              NULL);
    object_class_property_set_description(oc, "args",
        "The guest's command line, a string for each argument");
    object_class_property_add(oc, "min", "size", get_size, set_size, NULL,
                              FIELD(min_bytes));
    object_class_property_set_description(oc, "min",
        "Host memory that the guest is guaranteed");
    object_class_property_add(oc, "max", "size", get_size, set_size, NULL,
                              FIELD(max_bytes));
    object_class_property_set_description(oc, "max",
        "Host memory that the guest may have at most");
    object_class_property_add(oc, "shares", "uint32", get_shares, set_shares,
                              NULL, NULL);
    object_class_property_set_description(oc, "shares",
        "Weight of the guest when memory is divided");
}

static const TypeInfo guest_object_info = {
    .name = TYPE_GUEST_OBJECT,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(GuestObject),
    .instance_finalize = guest_object_finalize,
    .class_init = guest_object_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    },
};

static void guest_object_register_types(void)
{
    type_register_static(&guest_object_info);
}

type_init(guest_object_register_types)
