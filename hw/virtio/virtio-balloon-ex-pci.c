/*
 * balloon-ex on the PCI bus
 *
 * Registers the type and holds the virtio device; no more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-balloon-ex.h"
#include "hw/virtio/virtio-pci.h"
#include "qemu/module.h"
#include "qom/object.h"

#define TYPE_VIRTIO_BALLOON_EX_PCI "balloon-ex-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOBalloonExPCI, VIRTIO_BALLOON_EX_PCI)

struct VirtIOBalloonExPCI {
    VirtIOPCIProxy parent_obj;
    VirtIOBalloonEx vdev;
};

static void pci_realize(VirtIOPCIProxy *proxy, Error **errp)
{
    VirtIOBalloonExPCI *dev = VIRTIO_BALLOON_EX_PCI(proxy);

    if (proxy->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        /* one for the configuration, one that the queues share */
        proxy->nvectors = 2;
    }
    proxy->class_code = PCI_CLASS_OTHERS;
    qdev_realize(DEVICE(&dev->vdev), BUS(&proxy->bus), errp);
}

static const Property pci_properties[] = {
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors,
                       DEV_NVECTORS_UNSPECIFIED),
};

static void pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);
    VirtioPCIClass *vpc = VIRTIO_PCI_CLASS(klass);

    vpc->realize = pci_realize;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    dc->desc = "balloon whose pages move to other guests";
    device_class_set_props(dc, pci_properties);
    pc->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pc->device_id = PCI_DEVICE_ID_VIRTIO_BALLOON;
    pc->revision = VIRTIO_PCI_ABI_VERSION;
    pc->class_id = PCI_CLASS_OTHERS;
}

static void pci_instance_init(Object *obj)
{
    VirtIOBalloonExPCI *dev = VIRTIO_BALLOON_EX_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev),
                                TYPE_VIRTIO_BALLOON_EX);
}

static const VirtioPCIDeviceTypeInfo pci_info = {
    .base_name = TYPE_VIRTIO_BALLOON_EX_PCI,
    .generic_name = "balloon-ex",
    .transitional_name = "balloon-ex-transitional",
    .non_transitional_name = "balloon-ex-non-transitional",
    .instance_size = sizeof(VirtIOBalloonExPCI),
    .instance_init = pci_instance_init,
    .class_init = pci_class_init,
};

static void register_types(void)
{
    virtio_pci_types_register(&pci_info);
}

type_init(register_types)
