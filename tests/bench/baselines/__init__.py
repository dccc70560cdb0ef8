"""What Rejse is measured against, each as plain as its name says and started as a process of its own."""
