"""SAM inside the trainers of other libraries; each module needs the extra of its name, and nothing here loads one."""
