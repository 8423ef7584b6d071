"""Images that pass through networks, counted by hooks."""

from collections import Counter


def count_images(found: Counter, **networks) -> list:
    """Count in `found`, as "NAME forward" and "NAME backward", the images that pass each network.

    networks   name -> module, whose first argument holds the images
    returns    the handles of the hooks
    """
    def count(name):
        def forward(module, args, output):
            found[f"{name} forward"] += len(args[0])
            if args[0].requires_grad:
                args[0].register_hook(lambda grad: found.update({f"{name} backward": len(grad)}))
        return forward

    return [network.register_forward_hook(count(name)) for name, network in networks.items()]
