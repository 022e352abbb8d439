"""Networks as torch modules. Importing any of these modules imports torch, so plug-ins do it inside `build`."""
