"""Programs that run beside the master and speak to it by the control interface alone, as any client could."""
